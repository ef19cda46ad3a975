//! The one place that starts programs. Argument vectors only, no shell; an environment made from nothing; a process group
//! of its own, killed whole when time is up, when the caller goes away, and when the program ends and leaves something
//! behind; bounded output. `output` keeps what it says. Called by `exec`, `check` and the rest of `host`.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Child, sync::mpsc};

use super::users::Account;
use output::Output;
pub(crate) use output::printable;

mod output;

// Every program that the agent calls of its own accord. Build steps, hooks and checks name theirs themselves.
/// Installs packages.
pub const APT_GET: &str = "/usr/bin/apt-get";
/// Knows which packages there are to install.
pub const APT_CACHE: &str = "/usr/bin/apt-cache";
/// Mends an installation that was cut off in the middle.
pub const DPKG: &str = "/usr/bin/dpkg";
/// Says which packages are there.
pub const DPKG_QUERY: &str = "/usr/bin/dpkg-query";
/// Makes a file a swap area.
pub const MKSWAP: &str = "/sbin/mkswap";
/// Makes users.
pub const USERADD: &str = "/usr/sbin/useradd";
/// Reads the journal.
pub const JOURNALCTL: &str = "/usr/bin/journalctl";
/// Says what it makes of a timer's time.
pub const SYSTEMD_ANALYZE: &str = "/usr/bin/systemd-analyze";
/// Fetches commits; only ever started by the agent's own child `git`, which has given up what it could.
pub const GIT: &str = "/usr/bin/git";
/// Becomes an unprivileged user for good before it runs a program.
pub const SETPRIV: &str = "/usr/bin/setpriv";

/// The agent's own program, also when an upgrade has replaced its file.
pub const ITSELF: &str = "/proc/self/exe";

/// Where programs without a '/' are looked up, and what they get as PATH unless told otherwise.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// After a program's end, how long its output may still come from something that it left behind.
const DRAIN: Duration = Duration::from_millis(500);
/// How long a killed program is waited for; one that hangs in the kernel is reaped whenever it ends.
const REAP: Duration = Duration::from_secs(5);

/// A program to be run once.
#[derive(Clone)]
pub struct Command {
    /// An absolute path, a path from `cwd` if it has a '/', or a name to be found in `PATH`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// As whom, with their groups and without a way to more rights; `None` = root.
    pub account: Option<Account>,
    /// Where; `None` = `/`.
    pub cwd: Option<PathBuf>,
    /// Added to PATH, HOME and LANG=C.UTF-8, or in their place. May hold secrets.
    pub env: BTreeMap<String, String>,
    /// Then its whole process group is killed.
    pub timeout: Duration,
    /// What it reads; nothing unless said.
    pub stdin: Option<Arc<File>>,
    /// Where its standard output goes instead of into the outcome.
    pub stdout: Option<Arc<File>>,
    /// A file that all its output is added to, mode 0600, at most 64 MiB.
    pub output_file: Option<PathBuf>,
}

impl Command {
    /// A program run by root in `/`.
    #[must_use]
    pub fn new(program: impl Into<String>, args: Vec<String>, timeout: Duration) -> Self {
        Self {
            program: program.into(),
            args,
            account: None,
            cwd: None,
            env: BTreeMap::new(),
            timeout,
            stdin: None,
            stdout: None,
            output_file: None,
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("account", &self.account.as_ref().map(|a| &a.name))
            .field("cwd", &self.cwd)
            .field("env", &self.env.keys())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It took too long and was killed.
    TimedOut,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut => f.write_str("took too long and was killed"),
        }
    }
}

/// What came of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// The last 40 lines of standard output and error, as they came, each of at most 1000 bytes, without control characters.
    pub tail: Vec<String>,
    /// Its standard output, the first MiB.
    pub stdout: Vec<u8>,
}

impl Outcome {
    /// Whether it ended with 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.ended == Ended::Code(0)
    }
    /// Its last word for one-line messages; how it ended if it said nothing.
    #[must_use]
    pub fn last_line(&self) -> String {
        let said = self.tail.iter().rev().find(|line| !line.trim().is_empty());
        said.map_or_else(|| self.ended.to_string(), |line| line.trim().to_owned())
    }
}

/// Why a program could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It is nowhere in `PATH`, or not where it was said to be.
    #[error("program {program:?} was not found")]
    NotFound {
        /// As asked for.
        program: String,
    },
    /// Its directory is missing.
    #[error("directory {0} does not exist", .path.display())]
    Directory {
        /// Which.
        path: PathBuf,
    },
    /// The file for its output cannot be written.
    #[error("output file {path}: {source}", path = .path.display())]
    OutputFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system refused.
    #[error("{program}: {source}")]
    Start {
        /// As asked for.
        program: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs a program to its end, or to the end of its time. Dropping the future kills its process group.
pub async fn run(command: Command) -> Result<Outcome, ProcessError> {
    let mut output = Output::new(command.output_file.as_deref())?;
    let mut child = start(&command)?;
    let ended = wait(&mut child, &mut output, &command).await?;
    Ok(output.finish(ended))
}

/// Runs a program and hands on what `parse` makes of each line of its standard output, as it comes. When nobody takes
/// them any more the program is killed. Lines of more than 1 MiB are passed over.
pub(super) async fn run_lines<T>(
    command: Command,
    parse: fn(&[u8]) -> Option<T>,
    to: &mpsc::Sender<T>,
) -> Result<Outcome, ProcessError> {
    let mut output = Output::new(None)?;
    let mut child = start(&command)?;
    let (stdout, stderr) = (child.process.stdout.take(), child.process.stderr.take());
    let relaying = async {
        let Some(mut lines) = stdout.map(tokio::io::BufReader::new) else { return };
        let mut line = Vec::new();
        while output::next_line(&mut lines, &mut line).await {
            if let Some(parsed) = parse(&line)
                && to.send(parsed).await.is_err()
            {
                return;
            }
        }
    };
    let errors = output.read(None::<tokio::process::ChildStdout>, stderr);
    // What it complains about is read beside its lines, until those are at an end.
    let both = async {
        tokio::pin!(relaying, errors);
        tokio::select! {
            () = &mut relaying => {}
            () = &mut errors => relaying.await,
        }
    };
    let in_time = tokio::time::timeout(command.timeout, both).await.is_ok();
    // At the end of its lines it is ending by itself, or nobody wants more.
    let waited = tokio::time::timeout(DRAIN, child.process.wait()).await;
    child.kill_group();
    let ended = match waited {
        Ok(Ok(status)) if in_time => ended(status),
        _ => Ended::TimedOut,
    };
    Ok(output.finish(ended))
}

/// Reads and waits at once: a full pipe would hold the program up.
async fn wait(child: &mut Group, output: &mut Output, command: &Command) -> Result<Ended, ProcessError> {
    let (stdout, stderr) = (child.process.stdout.take(), child.process.stderr.take());
    let mut reading = std::pin::pin!(output.read(stdout, stderr));
    let mut read_all = false;
    let waiting = async {
        loop {
            tokio::select! {
                status = child.process.wait() => return status,
                () = &mut reading, if !read_all => read_all = true,
            }
        }
    };
    let waited = tokio::time::timeout(command.timeout, waiting).await;
    child.kill_group();
    let program = &command.program;
    let ended = match waited {
        Ok(Ok(status)) => ended(status),
        Ok(Err(source)) => return Err(ProcessError::Start { program: program.clone(), source }),
        Err(_) => {
            // Killed just now; waiting for it takes its entry out of the process table.
            match tokio::time::timeout(REAP, child.process.wait()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(program, %error, "a killed program could not be waited for"),
                Err(_) => tracing::warn!(program, "a killed program does not end; it is left behind"),
            }
            Ended::TimedOut
        }
    };
    if !read_all && tokio::time::timeout(DRAIN, &mut reading).await.is_err() {
        tracing::debug!(program, "something that it left behind still holds its output");
    }
    Ok(ended)
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
    }
}

/// A running program; its whole process group is killed when this goes away.
pub(super) struct Group {
    pub(super) process: Child,
    id: Option<Pid>,
}

impl Group {
    /// Kills what is left of the group. Right after the leader was waited for this is safe: its number stays taken as long
    /// as the group has members, and without members it is not given out again so soon.
    fn kill_group(&mut self) {
        let Some(id) = self.id.take() else { return };
        // The program may have left its group for another one of the session, such as the agent's own.
        if self.process.id().is_some()
            && let Err(error) = self.process.start_kill()
        {
            tracing::warn!(process = id.as_raw_nonzero(), %error, "a program could not be killed");
        }
        match kill_process_group(id, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::warn!(group = id.as_raw_nonzero(), %error, "a process group could not be killed"),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Starts a program with its output piped.
pub(super) fn start(command: &Command) -> Result<Group, ProcessError> {
    harden();
    let cwd = command.cwd.clone().unwrap_or_else(|| PathBuf::from("/"));
    if !cwd.is_dir() {
        return Err(ProcessError::Directory { path: cwd });
    }
    let program = find(&command.program, &cwd)?;
    let mut ready = match &command.account {
        None => tokio::process::Command::new(&program),
        // setpriv would start itself. Supplementary groups go as well; what else there is to give up, `unpack` does.
        Some(account) if command.program == ITSELF => {
            let mut ready = tokio::process::Command::new(&program);
            ready.uid(account.uid).gid(account.gid);
            ready
        }
        Some(account) => {
            let mut ready = tokio::process::Command::new(SETPRIV);
            ready.arg("--reuid").arg(account.uid.to_string()).arg("--regid").arg(account.gid.to_string());
            ready.args(["--init-groups", "--no-new-privs", "--"]).arg(&program);
            ready
        }
    };
    let home = command.account.as_ref().map_or_else(|| PathBuf::from("/root"), |a| a.home.clone());
    ready.args(&command.args).current_dir(cwd).env_clear();
    ready.env("PATH", PATH).env("HOME", home).env("LANG", "C.UTF-8");
    ready.envs(command.env.iter().filter(|(key, _)| !steers_the_loader(key)));
    let failed = |source| ProcessError::Start { program: command.program.clone(), source };
    let stdin = command.stdin.as_ref().map_or_else(|| Ok(Stdio::null()), |file| file.try_clone().map(Stdio::from));
    let stdout = command.stdout.as_ref().map_or_else(|| Ok(Stdio::piped()), |file| file.try_clone().map(Stdio::from));
    ready.stdin(stdin.map_err(failed)?).stdout(stdout.map_err(failed)?).stderr(Stdio::piped());
    ready.process_group(0).kill_on_drop(true);
    let process = ready.spawn().map_err(failed)?;
    let id = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    Ok(Group { process, id })
}

/// Becomes another program, with what this one has left; comes back only if that cannot be.
pub(super) fn become_program(program: &str, args: &[String]) -> std::io::Error {
    std::os::unix::process::CommandExt::exec(std::process::Command::new(program).args(args))
}

/// Variables by which a program's libraries could be replaced; setpriv would still be root when it reads them.
fn steers_the_loader(key: &str) -> bool {
    key.starts_with("LD_") || key == "GLIBC_TUNABLES"
}

/// What children inherit from this process: no core dumps (they would hold secrets), and files that others can read but not write.
fn harden() {
    use rustix::process::{Resource, getrlimit, setrlimit, umask};
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut limit = getrlimit(Resource::Core);
    if limit.current != Some(0) {
        limit.current = Some(0);
        if let Err(error) = setrlimit(Resource::Core, limit) {
            tracing::warn!(%error, "core dumps could not be turned off");
        }
    }
}

/// The file that a program's name means.
fn find(program: &str, cwd: &Path) -> Result<PathBuf, ProcessError> {
    let found = if program.contains('/') {
        Some(cwd.join(program)).filter(|path| path.is_file())
    } else {
        let places = PATH.split(':').map(|place| Path::new(place).join(program));
        places.into_iter().find(|path| !program.is_empty() && is_executable(path))
    };
    found.ok_or_else(|| ProcessError::NotFound { program: program.to_owned() })
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests;
