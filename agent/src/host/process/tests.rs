//! Programs are really run here: their ends, their output, their time, and what they may not inherit. As root.

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::*;
use crate::host::users;

fn sh(script: &str) -> Command {
    Command::new("/bin/sh", vec!["-c".to_owned(), script.to_owned()], Duration::from_secs(10))
}

async fn said(command: Command) -> Vec<String> {
    run(command).await.unwrap().tail
}

#[tokio::test]
async fn exit_code_signal_and_success_are_told_apart() {
    assert!(run(sh("exit 0")).await.unwrap().ok());
    assert_eq!(run(sh("exit 7")).await.unwrap().ended, Ended::Code(7));
    assert_eq!(run(sh("kill -9 $$")).await.unwrap().ended, Ended::Signal(9));
    assert_eq!(run(sh("exit 7")).await.unwrap().last_line(), "exit code 7");
}

#[tokio::test]
async fn the_tail_has_both_streams_and_is_bounded() {
    let lines = said(sh("echo out; sleep 0.2; echo err >&2; sleep 0.2; printf 'no newline'")).await;
    assert_eq!(lines, ["out", "err", "no newline"]);
    let lines = said(sh("i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done")).await;
    assert_eq!((lines.len(), lines[0].as_str(), lines[39].as_str()), (40, "line 60", "line 99"));
    let lines = said(sh("head -c 5000 /dev/zero | tr '\\0' x")).await;
    assert_eq!((lines.len(), lines[0].len()), (1, 1000));
}

#[tokio::test]
async fn what_cannot_be_shown_is_taken_out() {
    let lines = said(sh(r"printf '\033[31mred\033[0m\007 tab\there\n10%%\r20%%\rdone\r\n\377\n'")).await;
    assert_eq!(lines, ["red tab here", "done", "\u{fffd}"]);
}

#[tokio::test]
async fn standard_output_is_kept_apart_and_bounded() {
    let outcome = run(sh("echo err >&2; head -c 3000000 /dev/zero; echo end >&2")).await.unwrap();
    assert_eq!(outcome.stdout.len(), 1 << 20);
    assert_eq!(outcome.ended, Ended::Code(0));
    assert_eq!(outcome.last_line(), "end");
}

#[tokio::test]
async fn all_output_goes_to_a_file_that_only_its_owner_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("build.log");
    for _ in 0..2 {
        let command = Command {
            output_file: Some(path.clone()),
            ..sh("echo one; i=0; while [ $i -lt 100 ]; do echo $i; i=$((i+1)); done")
        };
        run(command).await.unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 202);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link")).unwrap();
    let command = Command { output_file: Some(directory.path().join("link")), ..sh("echo x") };
    assert!(matches!(run(command).await, Err(ProcessError::OutputFile { .. })));
}

#[tokio::test]
async fn the_environment_is_made_from_nothing() {
    let mut command = Command::new("env", vec![], Duration::from_secs(10));
    for (key, value) in [("PORT", "5000"), ("LD_PRELOAD", "/tmp/x.so"), ("GLIBC_TUNABLES", "x"), ("LD_AUDIT", "y")] {
        command.env.insert(key.to_owned(), value.to_owned());
    }
    let mut lines = said(command).await;
    lines.sort();
    assert_eq!(lines, ["HOME=/root", "LANG=C.UTF-8", &format!("PATH={PATH}"), "PORT=5000"]);
}

#[tokio::test]
async fn secrets_do_not_show_in_debug() {
    let mut command = sh("true");
    command.env.insert("KEY".to_owned(), "hunter2".to_owned());
    let shown = format!("{command:?}");
    assert!(shown.contains("KEY") && !shown.contains("hunter2"), "{shown}");
}

/// Whether a process runs (a zombie does not).
fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
}

async fn ends(pid: &str) -> bool {
    for _ in 0..100 {
        if !runs(pid) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn when_time_is_up_grandchildren_are_killed_too() {
    let begun = Instant::now();
    let command = Command { timeout: Duration::from_millis(500), ..sh("trap '' TERM; sleep 60 & echo $!; wait; wait") };
    let outcome = run(command).await.unwrap();
    assert_eq!(outcome.ended, Ended::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(ends(&outcome.tail[0]).await, "the grandchild lives on");
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_and_does_not_hold_its_caller_up() {
    let begun = Instant::now();
    let outcome = run(sh("sleep 60 & echo $!")).await.unwrap();
    assert!(outcome.ok());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(ends(&outcome.tail[0]).await, "the child in the background lives on");
}

#[tokio::test]
async fn a_program_that_left_its_group_is_killed_in_time_too() {
    let script = "setpgrp(0, getpgrp(getppid())) or die; $| = 1; print \"$$\\n\"; sleep 60";
    let perl = Command::new("perl", vec!["-e".to_owned(), script.to_owned()], Duration::from_secs(2));
    let outcome = tokio::time::timeout(Duration::from_secs(30), run(perl)).await.expect("the agent waits for ever");
    let outcome = outcome.unwrap();
    assert_eq!(outcome.ended, Ended::TimedOut);
    assert!(ends(&outcome.tail[0]).await, "it lives on");
}

#[tokio::test]
async fn dropping_the_future_kills_the_group() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let command =
        Command { cwd: Some(directory.path().to_owned()), ..sh("sleep 60 & echo $! > pid.new; mv pid.new pid; wait") };
    let task = tokio::spawn(run(command));
    let mut pid = String::new();
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Ok(text) = std::fs::read_to_string(&file) {
            pid = text.trim().to_owned();
            break;
        }
    }
    assert!(runs(&pid), "it never started");
    task.abort();
    assert!(ends(&pid).await, "the grandchild lives on");
}

#[tokio::test]
async fn an_account_runs_with_its_own_rights_and_no_way_up() {
    let account = users::account(&"www-data".parse().unwrap()).unwrap().unwrap();
    let command = Command {
        account: Some(account.clone()),
        ..sh(
            "id -u; id -g; id -G; grep -E 'NoNewPrivs|CapEff|CapPrm' /proc/self/status; umask; ulimit -c; echo $HOME; cat /etc/shadow",
        )
    };
    let outcome = run(command).await.unwrap();
    let lines: Vec<&str> = outcome.tail.iter().map(String::as_str).collect();
    let number = account.uid.to_string();
    assert_eq!(lines[..3], [number.as_str(), number.as_str(), number.as_str()], "{lines:?}");
    for wanted in ["NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "0022", "0", "/var/www"]
    {
        assert!(lines.contains(&wanted.replace('\t', " ").as_str()), "{wanted}: {lines:?}");
    }
    // On standard error, which comes in no fixed order beside standard output.
    assert!(lines.iter().any(|line| line.contains("Permission denied")), "{lines:?}");
}

#[tokio::test]
async fn programs_are_found_by_path_by_place_and_by_name() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("bin")).unwrap();
    std::fs::copy("/bin/true", directory.path().join("bin/mine")).unwrap();
    let cwd: Option<PathBuf> = Some(directory.path().to_owned());
    let from = |program: &str| Command { cwd: cwd.clone(), ..Command::new(program, vec![], Duration::from_secs(5)) };
    assert!(run(from("bin/mine")).await.unwrap().ok());
    assert!(run(from("true")).await.unwrap().ok());
    for absent in ["mine", "bin/none", "/no/such", "", "bin", "/bin"] {
        assert!(matches!(run(from(absent)).await, Err(ProcessError::NotFound { .. })), "{absent:?}");
    }
    let nowhere = Command { cwd: Some("/no/such".into()), ..sh("true") };
    assert_eq!(run(nowhere).await.unwrap_err().to_string(), "directory /no/such does not exist");
    std::fs::write(directory.path().join("bin/plain"), "x").unwrap();
    assert!(matches!(run(from("bin/plain")).await, Err(ProcessError::Start { .. })));
}

#[tokio::test]
async fn lines_are_handed_on_as_they_come_until_nobody_wants_more() {
    let parse = |line: &[u8]| Some(String::from_utf8_lossy(line).into_owned());
    let (to, mut from) = mpsc::channel(1);
    let outcome = run_lines(sh("echo a; echo; printf b; echo why >&2; exit 3"), parse, &to);
    let read = async { [from.recv().await, from.recv().await, from.recv().await] };
    let (outcome, lines) = tokio::join!(outcome, read);
    assert_eq!(lines, ["a", "", "b"].map(|l| Some(l.to_owned())));
    let outcome = outcome.unwrap();
    assert_eq!((outcome.ended, outcome.last_line().as_str()), (Ended::Code(3), "why"));
    drop(from);
    let begun = Instant::now();
    assert!(!run_lines(sh("while :; do echo x; done"), parse, &to).await.unwrap().ok());
    assert!(begun.elapsed() < Duration::from_secs(5));
}
