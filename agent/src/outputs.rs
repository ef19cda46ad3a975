//! The full output of hooks, kept on the host and found again: one file per run, whose name says of which hook, release and
//! rollout it is, when it began, and how it ended. `exec/hooks` writes it, `link` shows it.
//!
//! `hook.NAME.RELEASE.ROLLOUT.BEGAN.log` while it runs; `hook.NAME.RELEASE.ROLLOUT.BEGAN.ENDED.HOW.log` once it has ended,
//! or the agent has started after it was killed in its middle, and no value of a secret is in it any more. Names of hooks
//! have no dot.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use drover_proto::{
    name::{AppName, ReleaseNumber, RolloutId},
    spec::DesiredApp,
};

use crate::{
    host::process::{Ended, printable},
    render::Layout,
    report::{Redactor, now_unix_ms},
};

/// Output files of one app that are kept.
const KEEP_FILES: usize = 40;
/// Of one file, shown at once; the rest is on the host.
const MAX_SHOWN_BYTES: u64 = 4 << 20;
/// Of one line, when values of secrets are taken out.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// One run of a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookRun {
    /// Of which hook.
    pub name: String,
    /// Of which release.
    pub release: ReleaseNumber,
    /// For which rollout.
    pub rollout: RolloutId,
    /// Unix ms.
    pub began_unix_ms: i64,
    /// Unix ms, and how; `None` = it runs.
    pub ended: Option<(i64, How)>,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// As a program does.
    Program(Ended),
    /// The agent was killed in its middle, and has started again at that time.
    Interrupted,
}

impl HookRun {
    /// The name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        let Self { name, release, rollout, began_unix_ms, ended } = self;
        let begun = format!("hook.{name}.{release}.{rollout}.{began_unix_ms}");
        match ended {
            None => format!("{begun}.log"),
            Some((at, How::Program(Ended::Code(code)))) => format!("{begun}.{at}.code{code}.log"),
            Some((at, How::Program(Ended::Signal(signal)))) => format!("{begun}.{at}.signal{signal}.log"),
            Some((at, How::Program(Ended::TimedOut))) => format!("{begun}.{at}.timeout.log"),
            Some((at, How::Interrupted)) => format!("{begun}.{at}.interrupted.log"),
        }
    }

    /// Reads a file's name; `None` = it is of something else.
    #[must_use]
    pub fn parse(file_name: &str) -> Option<Self> {
        let inner = file_name.strip_prefix("hook.")?.strip_suffix(".log")?;
        let parts: Vec<&str> = inner.split('.').collect();
        let [name, release, rollout, began, end @ ..] = &parts[..] else { return None };
        let ended = match end {
            [] => None,
            [at, how] => {
                let how = match (how.strip_prefix("code"), how.strip_prefix("signal"), *how) {
                    (Some(code), ..) => How::Program(Ended::Code(code.parse().ok()?)),
                    (_, Some(signal), _) => How::Program(Ended::Signal(signal.parse().ok()?)),
                    (_, _, "timeout") => How::Program(Ended::TimedOut),
                    (_, _, "interrupted") => How::Interrupted,
                    _ => return None,
                };
                Some((at.parse().ok()?, how))
            }
            _ => return None,
        };
        Some(Self {
            name: (*name).to_owned(),
            release: release.parse().ok()?,
            rollout: rollout.parse().ok()?,
            began_unix_ms: began.parse().ok()?,
            ended,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self, layout: &Layout, app: &AppName) -> PathBuf {
        layout.output_of(app).join(self.file_name())
    }

    /// The run has ended: its file says so from now on, and holds no value of a secret any more. A file from which they
    /// cannot be taken stays as it is, for the next start.
    pub fn end(mut self, layout: &Layout, app: &AppName, at_unix_ms: i64, how: How, redactor: &Redactor) {
        let begun = self.path(layout, app);
        if let Err(error) = conceal(&begun, redactor) {
            tracing::warn!(%app, %error, path = %begun.display(), "the output of a hook may hold values of secrets");
            return;
        }
        self.ended = Some((at_unix_ms, how));
        if let Err(error) = fs::rename(&begun, self.path(layout, app)) {
            tracing::warn!(%app, %error, path = %begun.display(), "the output of a hook does not say how it ended");
        }
    }

    /// Whether one of these is the release, as that rollout wanted it, whose secrets its program was given.
    fn is_of(&self, known: &[&DesiredApp]) -> bool {
        known.iter().any(|app| app.release.number == self.release && app.rollout == self.rollout)
    }

    /// Its last `most` lines, oldest first, and how many bytes before them are not shown. `known`: the releases whose
    /// secrets are known. An error if there may be values of others in it.
    pub fn lines(
        &self,
        layout: &Layout,
        app: &AppName,
        most: usize,
        known: &[&DesiredApp],
    ) -> io::Result<(Vec<String>, u64)> {
        let path = self.path(layout, app);
        if self.ended.is_none() && !self.is_of(known) {
            let why = "it may hold values of secrets that are not known any more; look at it on the host";
            return Err(io::Error::other(format!("{why}: {}", path.display())));
        }
        let redactor = Redactor::of(known.iter().copied());
        let mut file = File::open(path)?;
        let mut left_out = file.metadata()?.len().saturating_sub(MAX_SHOWN_BYTES);
        file.seek(SeekFrom::Start(left_out))?;
        let mut bytes = Vec::new();
        file.take(MAX_SHOWN_BYTES).read_to_end(&mut bytes)?;
        let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        // Half a line may hold half a value, which is not recognized.
        if left_out > 0 && !lines.is_empty() {
            left_out += lines.remove(0).len() as u64;
        }
        if self.ended.is_none() {
            lines.pop_if(|line| !line.ends_with(b"\n"));
        }
        let excess = lines.len().saturating_sub(most);
        left_out += lines.drain(..excess).map(|line| line.len() as u64).sum::<u64>();
        // Before it is shortened, and once more when nothing that cannot be seen divides a value.
        let show = |line: &&[u8]| redactor.text(&printable(redactor.text(&String::from_utf8_lossy(line)).as_bytes()));
        Ok((lines.iter().map(show).collect(), left_out))
    }
}

/// The runs of an app's hooks that are kept, newest first.
#[must_use]
pub fn runs(layout: &Layout, app: &AppName) -> Vec<HookRun> {
    let mut runs: Vec<HookRun> = files(layout, app).iter().filter_map(|path| of_path(path)).collect();
    runs.sort_by_key(|run| std::cmp::Reverse((run.began_unix_ms, run.ended.map(|(at, _)| at))));
    runs
}

/// At the agent's start, when no hook runs: takes the values of `known` releases' secrets out of the output of those that
/// were interrupted. One of another release stays without an end: what its secrets were, nobody can say.
pub fn close_interrupted(layout: &Layout, app: &AppName, known: &[&DesiredApp]) {
    let redactor = Redactor::of(known.iter().copied());
    for run in runs(layout, app).into_iter().filter(|run| run.ended.is_none()) {
        if run.is_of(known) {
            run.end(layout, app, now_unix_ms(), How::Interrupted, &redactor);
        }
    }
}

fn of_path(path: &Path) -> Option<HookRun> {
    HookRun::parse(path.file_name()?.to_str()?)
}

/// Removes all output of an app but the newest files. What cannot be removed is said and left.
pub fn prune(layout: &Layout, app: &AppName) {
    let with_time = |path: PathBuf| Some((fs::metadata(&path).ok()?.modified().ok()?, path));
    let mut all: Vec<(SystemTime, PathBuf)> = files(layout, app).into_iter().filter_map(with_time).collect();
    all.sort();
    let excess = all.len().saturating_sub(KEEP_FILES);
    for (_, path) in all.drain(..excess) {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%app, path = %path.display(), %error, "an old output file cannot be removed");
        }
    }
}

fn files(layout: &Layout, app: &AppName) -> Vec<PathBuf> {
    let directory = layout.output_of(app);
    match fs::read_dir(&directory) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, directory = %directory.display(), "cannot be listed");
            Vec::new()
        }
    }
}

/// Takes the values of secrets out of a file, line by line: one day another value is the current one, and nobody would
/// know then that this was one.
fn conceal(path: &Path, redactor: &Redactor) -> io::Result<()> {
    if redactor.is_empty() {
        return Ok(());
    }
    let mut from = match File::open(path) {
        Ok(file) => BufReader::new(file),
        // The program could not even be started.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let concealed = path.with_extension("concealed");
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&concealed)?;
    let mut line = Vec::new();
    while (&mut from).take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let shown = redactor.text(&text);
        to.write_all(if shown == text { &line } else { shown.as_bytes() })?;
        line.clear();
    }
    fs::rename(&concealed, path)
}

#[cfg(test)]
mod tests {
    //! Names of files, and what is kept and shown.
    use tempfile::TempDir;

    use super::*;
    use crate::render::tests::{desired, layout_in};

    fn bench() -> (TempDir, Layout, AppName) {
        let dir = TempDir::new().unwrap();
        let layout = layout_in(dir.path());
        let app: AppName = "mono".parse().unwrap();
        fs::create_dir_all(layout.output_of(&app)).unwrap();
        (dir, layout, app)
    }

    fn run(began_unix_ms: i64, ended: Option<(i64, How)>) -> HookRun {
        HookRun { name: "before_switch-1".to_owned(), release: 3, rollout: 9, began_unix_ms, ended }
    }

    #[test]
    fn a_name_says_all_and_comes_back() {
        let ends = [Ended::Code(0), Ended::Code(-1), Ended::Signal(9), Ended::TimedOut].map(How::Program);
        for how in ends.into_iter().chain([How::Interrupted]).map(Some).chain([None]) {
            let run = run(5, how.map(|how| (8, how)));
            assert_eq!(HookRun::parse(&run.file_name()), Some(run));
        }
        for other in ["3-build.log", "hook.a.log", "hook.a.1.2.3.4.log", "hook.a.1.2.3.4.odd.log", "hook.a.x.2.3.log"] {
            assert_eq!(HookRun::parse(other), None, "{other}");
        }
    }

    #[test]
    fn output_is_shown_from_its_end_without_secrets_and_kept_without_them() {
        let (_dir, layout, app) = bench();
        let redactor = Redactor::of([&desired()]);
        let begun = run(5, None);
        fs::write(begun.path(&layout, &app), "one\n\x1b[31mwith hunter2\nlast").unwrap();
        assert_eq!(runs(&layout, &app), std::slice::from_ref(&begun));
        let how = How::Program(Ended::Code(0));
        begun.end(&layout, &app, 6, how, &redactor);
        let ended = run(5, Some((6, how)));
        assert_eq!(runs(&layout, &app), std::slice::from_ref(&ended));
        let kept = fs::read_to_string(ended.path(&layout, &app)).unwrap();
        assert_eq!(kept, "one\n\x1b[31mwith [secret]\nlast");
        let (lines, left_out) = ended.lines(&layout, &app, 2, &[]).unwrap();
        assert_eq!((lines, left_out), (vec!["with [secret]".to_owned(), "last".to_owned()], 4));
    }

    #[test]
    fn output_without_an_end_is_shown_and_closed_only_while_its_secrets_are_known() {
        let (_dir, layout, app) = bench();
        let desired = desired();
        let begun = HookRun { release: desired.release.number, rollout: desired.rollout, ..run(5, None) };
        fs::write(begun.path(&layout, &app), "with hunter2\nhun").unwrap();
        let (lines, _) = begun.lines(&layout, &app, 9, &[&desired]).unwrap();
        assert_eq!(lines, ["with [secret]"], "and not half a value");
        let other = DesiredApp { rollout: desired.rollout + 1, ..desired.clone() };
        for known in [&[][..], &[&other]] {
            assert!(
                begun.lines(&layout, &app, 9, known).unwrap_err().to_string().contains("may hold values of secrets")
            );
            close_interrupted(&layout, &app, known);
            assert_eq!(runs(&layout, &app), std::slice::from_ref(&begun));
        }
        close_interrupted(&layout, &app, &[&other, &desired]);
        let closed = runs(&layout, &app).remove(0);
        assert!(matches!(closed.ended, Some((_, How::Interrupted))), "{closed:?}");
        assert_eq!(fs::read_to_string(closed.path(&layout, &app)).unwrap(), "with [secret]\nhun");
        assert_eq!(closed.lines(&layout, &app, 9, &[]).unwrap().0, ["with [secret]", "hun"]);
    }

    #[test]
    fn the_line_in_which_the_shown_part_begins_is_left_out() {
        let (_dir, layout, app) = bench();
        let desired = desired();
        let begun = HookRun { release: desired.release.number, rollout: desired.rollout, ..run(5, None) };
        // The shown part begins in the middle of the value.
        let end = "\nend\n";
        let text = format!("hunter2\n{}\n{end}", "x".repeat(MAX_SHOWN_BYTES as usize - 5 - end.len()));
        fs::write(begun.path(&layout, &app), &text).unwrap();
        let (lines, left_out) = begun.lines(&layout, &app, 9, &[&desired]).unwrap();
        assert!(lines.iter().all(|line| !line.contains("ter2")) && lines.last().unwrap() == "end", "{}", lines.len());
        assert_eq!(left_out, "hunter2\n".len() as u64);
    }

    #[test]
    fn the_newest_files_are_kept() {
        let (_dir, layout, app) = bench();
        for began in 0..KEEP_FILES as i64 + 5 {
            let path = run(began, None).path(&layout, &app);
            let file = File::create(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(began.unsigned_abs())).unwrap();
        }
        prune(&layout, &app);
        let kept = runs(&layout, &app);
        assert_eq!((kept.len(), kept[0].began_unix_ms), (KEEP_FILES, KEEP_FILES as i64 + 4));
    }
}
