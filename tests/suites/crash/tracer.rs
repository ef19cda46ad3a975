//! Ends a process with SIGKILL at an exact point: on entering its n-th system call of a kind, counted over all its threads.
//! That call is not carried out any more; all before it are. Nothing of the process knows, and its children are not traced.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Which calls are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Calls {
    /// What others see: names made, moved and removed, calls to D-Bus and Docker that ask for something to be done, programs
    /// started.
    Boundaries,
    /// All.
    Every,
}

/// What a boundary is, with its name.
const BOUNDARIES: &[(i64, &str)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, "rmdir"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_vfork, "vfork"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_symlinkat, "symlinkat"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_clone3, "clone3"),
];
/// `op` of `ptrace_syscall_info`: the thread is about to enter a call.
const ENTRY: u8 = 1;

/// Watches one process.
pub struct Tracer {
    pid: Pid,
    over: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What a tracer saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Calls counted.
    pub calls: u64,
    /// The call that was never carried out.
    pub killed_at: Option<String>,
}

impl Tracer {
    /// Returns once all threads of the process are watched. `at` = 0 only counts.
    pub fn attach(pid: u32, calls: Calls, at: u64) -> Tracer {
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
        let (over, (ready, attached)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
        let seen_over = over.clone();
        // Only the thread that attached may trace, and it waits for nobody else's children.
        let thread = std::thread::spawn(move || trace(pid, calls, at, &ready, &seen_over));
        attached.recv().unwrap_or_else(|_| {
            let status = fs::read_to_string(format!("/proc/{pid}/status"));
            panic!("process {pid} cannot be traced (CAP_SYS_PTRACE?): {status:?}")
        });
        Tracer { pid, over, thread }
    }

    /// Lets go of the process, if it is still there.
    pub fn end(self) -> Seen {
        self.over.store(true, Ordering::SeqCst);
        // Ignored by the process, but the tracer wakes up for it. There may be no process any more.
        kill(self.pid, Signal::SIGURG).ok();
        self.thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
    }
}

/// Attaches to every thread, also to those that are started meanwhile. They stop, and the caller makes them go on.
fn seize(pid: Pid) -> BTreeSet<Pid> {
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
    let mut seized = BTreeSet::new();
    loop {
        let before = seized.len();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let tid = Pid::from_raw(entry.file_name().to_string_lossy().parse().expect("a thread's number"));
            if seized.contains(&tid) || ptrace::seize(tid, options).is_err() {
                continue;
            }
            // A thread that is gone already stops nobody.
            ptrace::interrupt(tid).ok();
            seized.insert(tid);
        }
        if seized.len() == before {
            return seized;
        }
    }
}

fn trace(pid: Pid, calls: Calls, at: u64, ready: &mpsc::Sender<()>, over: &AtomicBool) -> Seen {
    let mut starting = seize(pid);
    let mut seen = Seen::default();
    if starting.is_empty() {
        return seen;
    }
    while !over.load(Ordering::SeqCst) {
        let (tid, pass_on) = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Ok(WaitStatus::PtraceSyscall(tid)) => {
                if let Some(name) = counted(tid, calls) {
                    seen.calls += 1;
                    if seen.calls == at {
                        kill(pid, Signal::SIGKILL).expect("it is there");
                        seen.killed_at = Some(name);
                        // Of the first calls some come before all threads are watched.
                        ready.send(()).ok();
                        return seen;
                    }
                }
                (tid, None)
            }
            Ok(WaitStatus::Stopped(tid, signal)) => (tid, Some(signal)),
            Ok(WaitStatus::PtraceEvent(tid, _, _)) => (tid, None),
            Ok(WaitStatus::Exited(tid, _) | WaitStatus::Signaled(tid, _, _)) => {
                starting.remove(&tid);
                continue;
            }
            Ok(WaitStatus::Continued(_) | WaitStatus::StillAlive) => continue,
            Err(Errno::EINTR) => continue,
            Err(_) => break,
        };
        // One that has died since goes nowhere.
        ptrace::syscall(tid, pass_on).ok();
        starting.remove(&tid);
        if starting.is_empty() {
            // Who attached may have stopped listening.
            ready.send(()).ok();
        }
    }
    seen
}

/// D-Bus calls that change nothing: dying before one of them is dying before the next that does.
const ONLY_ASK: [&str; 5] = ["GetAll", "LoadUnit", "AddMatch", "RemoveMatch", "Hello"];

/// The memory of a thread that stands still.
struct Memory(fs::File);

impl Memory {
    fn of(tid: Pid) -> Option<Self> {
        fs::File::open(format!("/proc/{tid}/mem")).ok().map(Self)
    }

    fn word(&self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, at).ok()?;
        Some(u64::from_ne_bytes(bytes))
    }

    /// The beginning of a buffer.
    fn text(&self, start: u64, length: u64) -> Option<String> {
        let mut bytes = vec![0; usize::try_from(length.min(512)).ok()?];
        self.0.read_exact_at(&mut bytes, start).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// That of the first of some buffers (`struct iovec` at this address).
    fn first(&self, buffers: u64) -> Option<String> {
        self.text(self.word(buffers)?, self.word(buffers + 8)?)
    }

    /// That of a message that is about to be sent (`struct msghdr` at this address).
    fn message(&self, header: u64) -> Option<String> {
        self.first(self.word(header + 16)?)
    }
}

/// What a request over HTTP asks to be done, for people. One that only asks is none.
fn request(sent: &str) -> Option<String> {
    let line = sent.lines().next()?.strip_suffix(" HTTP/1.1")?;
    ["POST /", "DELETE /", "PUT /"].iter().any(|verb| line.starts_with(verb)).then(|| line.to_owned())
}

/// The method that a D-Bus message calls, for people.
fn method(sent: &str) -> String {
    let words = sent.split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '/');
    let methods =
        ["StartUnit", "StopUnit", "RestartUnit", "ReloadOrRestartUnit", "EnableUnitFiles", "DisableUnitFiles"];
    let mut named = words.filter(|word| methods.contains(word) || ["Reload", "ResetFailedUnit"].contains(word));
    named.next().unwrap_or("something").to_owned()
}

/// The name of the call that the thread is entering, if it counts.
fn counted(tid: Pid, calls: Calls) -> Option<String> {
    if ptrace::syscall_info(tid).ok()?.op != ENTRY {
        return None;
    }
    let registers = ptrace::getregs(tid).ok()?;
    #[cfg(target_arch = "x86_64")]
    let (number, second, third) = (registers.orig_rax.cast_signed(), registers.rsi, registers.rdx);
    #[cfg(target_arch = "aarch64")]
    let (number, second, third) = (registers.regs[8].cast_signed(), registers.regs[1], registers.regs[2]);
    if calls == Calls::Boundaries {
        match number {
            libc::SYS_sendmsg => {
                let sent = Memory::of(tid)?.message(second).unwrap_or_default();
                let asks = ONLY_ASK.iter().any(|method| sent.contains(method));
                return (!asks).then(|| format!("sendmsg of {}", method(&sent)));
            }
            libc::SYS_write | libc::SYS_sendto => return request(&Memory::of(tid)?.text(second, third)?),
            libc::SYS_writev => return request(&Memory::of(tid)?.first(second)?),
            _ => {}
        }
    }
    let name = BOUNDARIES.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).to_owned());
    match calls {
        Calls::Boundaries => name,
        Calls::Every => Some(name.unwrap_or_else(|| format!("call {number}"))),
    }
}
