//! What the hooks of an app said on this host, from the files that are kept of their runs. Beside `jobs`.

use std::collections::BTreeSet;

use drover_proto::{
    code::Code,
    name::{AppName, ReleaseNumber},
    wire::{HookLogsJob, JobDone, LogLine, job_reply::Reply},
};

use super::{MAX_LOG_LINES, Replier};
use crate::{
    outputs::{HookRun, How},
    reconcile::Handle,
};

/// Answers with the newest run of each hook that was asked for, oldest run first, each under a line of its own.
pub(super) async fn answer(reconcile: &Handle, job: HookLogsJob, replier: &Replier) {
    let Ok(app) = job.app.parse::<AppName>() else {
        return replier.refuse(Code::Invalid, "the app's name is not valid").await;
    };
    let runs = newest_of_each(reconcile.hook_runs(&app), &job.hook, job.release);
    if runs.is_empty() {
        let of = if job.hook.is_empty() { "a hook".to_owned() } else { format!("hook {}", job.hook) };
        return replier.refuse(Code::NotFound, format!("no output of {of} of {app} is kept on this host")).await;
    }
    let most = job.lines.min(MAX_LOG_LINES) as usize;
    for run in runs {
        let (reconcile, app_name, about) = (reconcile.clone(), app.clone(), run.clone());
        let read = tokio::task::spawn_blocking(move || reconcile.output_of(&app_name, &about, most)).await;
        let mut texts = vec![format!("[drover: {}]", headline(&app, &run))];
        match read {
            Ok(Ok((lines, left_out, path))) => {
                if left_out > 0 {
                    texts.push(format!("[drover: {left_out} bytes before this are in {}]", path.display()));
                }
                texts.extend(lines);
            }
            Ok(Err(error)) => texts.push(format!("[drover: its output cannot be read: {error}]")),
            Err(error) => texts.push(format!("[drover: its output cannot be read: {error}]")),
        }
        for text in texts {
            let unit = format!("hook {}", run.name);
            let line = LogLine { unit, unix_ms: run.began_unix_ms, text, host: String::new() };
            if !replier.say(Reply::LogLine(line)).await {
                return;
            }
        }
    }
    replier.say(Reply::Done(JobDone {})).await;
}

/// `runs`: newest first. Empty name, release 0: any.
fn newest_of_each(runs: Vec<HookRun>, name: &str, release: ReleaseNumber) -> Vec<HookRun> {
    let mut seen = BTreeSet::new();
    let wanted = |run: &HookRun| (name.is_empty() || run.name == name) && (release == 0 || run.release == release);
    let mut newest: Vec<HookRun> =
        runs.into_iter().filter(|run| wanted(run) && seen.insert(run.name.clone())).collect();
    newest.reverse();
    newest
}

fn headline(app: &AppName, run: &HookRun) -> String {
    let HookRun { name, release, rollout, began_unix_ms, ended } = run;
    let about = format!("hook {name} of {app}/{release}, rollout {rollout}");
    match ended {
        Some((_, How::Interrupted)) => format!("{about}: interrupted; the agent was killed in its middle"),
        Some((at, How::Program(ended))) => {
            format!("{about}: {ended} after {:.1} s", (at - began_unix_ms).max(0) as f64 / 1000.0)
        }
        None => format!("{about}: it has not ended"),
    }
}

#[cfg(test)]
mod tests {
    //! Which runs are shown.
    use super::*;
    use crate::host::process::Ended;

    fn run(name: &str, release: u64, began_unix_ms: i64) -> HookRun {
        HookRun { name: name.to_owned(), release, rollout: 7, began_unix_ms, ended: None }
    }

    #[test]
    fn the_newest_run_of_each_hook_is_shown_oldest_first() {
        let runs = || vec![run("warm", 2, 9), run("migrate", 2, 8), run("migrate", 1, 3), run("warm", 1, 2)];
        let began = |name, release| -> Vec<i64> {
            newest_of_each(runs(), name, release).iter().map(|run| run.began_unix_ms).collect()
        };
        assert_eq!(began("", 0), [8, 9]);
        assert_eq!(began("migrate", 0), [8]);
        assert_eq!(began("", 1), [2, 3]);
        assert_eq!(began("migrate", 1), [3]);
        assert_eq!(began("other", 0), [0_i64; 0]);
    }

    #[test]
    fn a_run_says_how_it_ended() {
        let app = "mono".parse().unwrap();
        let mut run = run("migrate", 2, 1000);
        assert!(headline(&app, &run).contains("hook migrate of mono/2, rollout 7: it has not ended"));
        run.ended = Some((2500, How::Program(Ended::Code(3))));
        assert!(headline(&app, &run).ends_with("exit code 3 after 1.5 s"));
        run.ended = Some((2500, How::Interrupted));
        assert!(headline(&app, &run).contains("interrupted"));
    }
}
