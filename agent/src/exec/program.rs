//! Programs of the manifest: files' own checks, with their output kept in full, and what hooks and build steps have in
//! common with them. Beside `exec`.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use drover_proto::{code::Code, limits, name::AbsPath};

use super::{Exec, StepFailure, directories};
use crate::host::process::{self, Command, Ended, Outcome};

/// For one check of a file; docs/MANIFEST.md says it.
const VALIDATE_TIMEOUT: Duration = Duration::from_secs(60);

impl Exec<'_> {
    /// A fresh file for the full output of one step of this release.
    pub(super) fn output_file(&self, step: &str) -> Result<PathBuf, StepFailure> {
        let directory = self.layout.output_of(self.app);
        directories::make(&directory, 0o700).map_err(|e| {
            StepFailure::new(Code::Write, "output", format!("{} cannot be made: {e}", directory.display()))
        })?;
        let release = self.wanted.map_or(0, |wanted| wanted.release.number);
        let path = directory.join(format!("{release}-{step}.log"));
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, path = %path.display(), "an old output file stays"),
        }
        Ok(path)
    }

    /// A file's check; `gone`: of one that the release does not have any more.
    pub(super) async fn validate(&self, path: &AbsPath, gone: &[String], staged: bool) -> Result<(), StepFailure> {
        let missing = || StepFailure::new(Code::Internal, "validate", format!("{path} has no check"));
        let file = self.wanted.and_then(|wanted| wanted.file(path));
        // Held until the program has ended, then removed.
        let (_keep, argv, shown) = match file {
            None => (None, gone.to_vec(), gone.to_vec()),
            Some(file) => {
                let validate = file.validate.as_ref().ok_or_else(missing)?;
                let shown = validate.argv(path.as_str());
                if staged {
                    let (directory, copy) = self.staged_copy(path, file.bytes.expose())?;
                    (Some(directory), validate.argv(&copy.to_string_lossy()), shown)
                } else {
                    (None, shown.clone(), shown)
                }
            }
        };
        let of = if file.is_some() { format!("for {path}") } else { format!("without {path}") };
        let title = shown.join(" ");
        let mut command = command(&argv, VALIDATE_TIMEOUT)?;
        command.output_file = Some(self.output_file("validate")?);
        let outcome = process::run(command).await.map_err(|error| {
            StepFailure::new(Code::Validate, &title, format!("{title} could not be run {of}: {error}"))
        })?;
        if outcome.ok() {
            return Ok(());
        }
        let cause = match outcome.ended {
            Ended::TimedOut => {
                let limit = VALIDATE_TIMEOUT.as_secs();
                format!(
                    "{title} {of} took longer than the {limit} s that a check of a file has, and was killed; \
                     something slower belongs into a hook"
                )
            }
            Ended::Code(_) | Ended::Signal(_) => format!("{title} failed {of}: {}", telling_line(&outcome)),
        };
        Err(StepFailure::new(Code::Validate, &title, cause).with(format!("output of {title}"), outcome.tail))
    }

    fn staged_copy(&self, path: &AbsPath, bytes: &[u8]) -> Result<(tempfile::TempDir, PathBuf), StepFailure> {
        let failed =
            |why: String| StepFailure::new(Code::Write, "staging", format!("a copy of {path} cannot be staged: {why}"));
        let directory = tempfile::TempDir::new_in(self.layout.work_dir()).map_err(|e| failed(e.to_string()))?;
        let name = path.as_path().file_name().unwrap_or_default();
        let copy = directory.path().join(name);
        crate::host::files::write_private(&copy, bytes).map_err(|e| failed(e.to_string()))?;
        Ok((directory, copy))
    }
}

/// A program and its arguments, as root in `/` unless changed.
pub(super) fn command(argv: &[String], timeout: Duration) -> Result<Command, StepFailure> {
    match argv.split_first() {
        Some((program, args)) => Ok(Command::new(program.clone(), args.to_vec(), timeout)),
        None => Err(StepFailure::new(Code::Internal, "program", "no program is named")),
    }
}

/// The line that says what is wrong: programs often end with one that only says that something is.
#[must_use]
pub fn telling_line(outcome: &Outcome) -> String {
    const TELLING: [&str; 6] = ["[emerg]", "error:", "fatal:", "panic", "Error:", "ERROR"];
    let telling = outcome.tail.iter().rev().find(|line| TELLING.iter().any(|word| line.contains(word)));
    telling.cloned().unwrap_or_else(|| outcome.last_line())
}

/// The last lines of an output file, as evidence.
pub(super) fn last_lines(path: &Path) -> Vec<String> {
    const LAST_BYTES: u64 = 16 << 10;
    let mut text = Vec::new();
    let read = fs::File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
        file.read_to_end(&mut text)
    });
    if let Err(error) = read {
        return vec![format!("({} cannot be read: {error})", path.display())];
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(limits::MAX_EVIDENCE_LINES);
    lines[from..].iter().map(|line| line.chars().filter(|c| !c.is_control()).take(300).collect()).collect()
}
