//! What a command said, for tests: run to its end by [`run`], judged by [`Output::ok`].

use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};

/// A finished command. Its `Display` is everything known about it, for a failure message.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages only.
    pub command: String,
    /// The exit status; 128 + N when signal N ended it.
    pub status: i32,
    /// All of standard output, byte for byte.
    pub bytes: Vec<u8>,
    /// Standard output as text, with what is not UTF-8 replaced.
    pub stdout: String,
    /// Standard error as text, with what is not UTF-8 replaced.
    pub stderr: String,
}

impl Output {
    /// Did it end with status 0?
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// Its standard output without the newline at the end; panics with everything it said unless it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success(), "{self}");
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// Its standard error after its standard output; panics if it succeeded.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(!self.success(), "should have failed: {self}");
        self.stdout + &self.stderr
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` ended with status {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}

/// Runs `command` to its end with `input` on its standard input, if given.
#[track_caller]
pub fn run(command: &mut Command, input: Option<&[u8]>) -> Output {
    use std::os::unix::process::ExitStatusExt;
    let line = line_of(command);
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start `{line}`: {error}"));
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // From a thread of its own: the command may answer before it has read everything. An error means that
            // it ended early, and then its status tells.
            scope.spawn(move || stdin.write_all(input).ok());
        }
        child.wait_with_output()
    })
    .unwrap_or_else(|error| panic!("cannot wait for `{line}`: {error}"));
    let signal = || 128 + output.status.signal().unwrap_or_default();
    Output {
        command: line,
        status: output.status.code().unwrap_or_else(signal),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        bytes: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn line_of(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    command.get_args().fold(name, |line, arg| line + " " + &arg.to_string_lossy())
}
