//! The worker processes of nginx: who still takes requests by an older configuration, and who only finishes what it has begun.
//! `exec` asks around a reload, of which nginx itself says nothing: it is told by a signal.

use std::{collections::BTreeSet, fs};

/// How a worker process calls itself; on its way out it says so.
const WORKER: &str = "nginx: worker process";
const ON_ITS_WAY_OUT: &str = "is shutting down";

/// A process, by its number and the time of its start: numbers come again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Worker {
    pid: u32,
    started: u64,
}

/// The workers of one nginx.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Workers {
    /// These take requests.
    pub serving: BTreeSet<Worker>,
    /// These only finish what they have begun.
    pub leaving: BTreeSet<Worker>,
}

/// The workers of the nginx whose main process that is. What has ended meanwhile is passed over.
#[must_use]
pub fn workers(main_pid: u32) -> Workers {
    let mut workers = Workers::default();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let Some((parent, started)) = parent_and_start(&String::from_utf8_lossy(&read("stat"))) else { continue };
        if parent != main_pid || main_pid == 0 {
            continue;
        }
        match is_leaving(&String::from_utf8_lossy(&read("cmdline"))) {
            Some(true) => workers.leaving.insert(Worker { pid, started }),
            Some(false) => workers.serving.insert(Worker { pid, started }),
            None => false,
        };
    }
    workers
}

/// `None`: it is no worker.
fn is_leaving(title: &str) -> Option<bool> {
    title.starts_with(WORKER).then(|| title.contains(ON_ITS_WAY_OUT))
}

/// Of a line of `/proc/PID/stat`, in which a process's name may hold anything, brackets too.
fn parent_and_start(stat: &str) -> Option<(u32, u64)> {
    let mut words = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
    let parent = words.next()?.parse().ok()?;
    // `starttime` is the 22nd field, the parent the fourth.
    Some((parent, words.nth(17)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    //! What the kernel and nginx write.
    use super::*;

    #[test]
    fn processes_are_read_whatever_they_are_called() {
        let stat = "71 (a) b (c) S 70 71 71 0 -1 4194624 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2 3";
        assert_eq!(parent_and_start(stat), Some((70, 4242)));
        assert_eq!(parent_and_start("71 (nginx"), None);
        let own = parent_and_start(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert_eq!(own.0, std::os::unix::process::parent_id());
    }

    #[test]
    fn a_worker_says_when_it_leaves() {
        assert_eq!(is_leaving("nginx: worker process\0"), Some(false));
        assert_eq!(is_leaving("nginx: worker process is shutting down\0"), Some(true));
        assert_eq!(is_leaving("nginx: cache manager process\0"), None);
        assert_eq!(is_leaving("nginx: master process /usr/sbin/nginx -g daemon on;\0"), None);
    }
}
