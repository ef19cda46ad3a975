//! The child side of `unpack`: gives up what it can, then reads an archive on standard input and writes its tree into the
//! directory that it was started in. Single-threaded, and unable to start anything.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use super::{Bounds, plain};
use crate::host::{
    archive::{self, ArchiveError, Limits},
    confine::{Most, Work, confine},
};

/// Exit code: the archive is bad; the last line says why.
pub(super) const REFUSED: i32 = 3;
/// Exit code: the disk would not; the last line says why.
pub(super) const CANNOT_WRITE: i32 = 4;
/// What the line begins with that says how it ended.
pub(super) const SAYS: &str = "unpack: ";

fn say(what: &str) {
    eprintln!("{SAYS}{what}");
}

/// Memory, as address space: the largest window of zstd four times over.
const MEMORY_BYTES: u64 = 512 << 20;
/// Processor time.
const CPU_SECONDS: u64 = 600;
/// Two on the way down a path, and room.
const OPEN_FILES: u64 = 64;

/// The arguments of the agent's own program for this, and its environment.
#[cfg(not(test))]
pub(super) fn call(bounds: Bounds) -> (Vec<String>, Option<(String, String)>) {
    (vec!["unpack".to_owned(), "--bounds".to_owned(), text(bounds)], None)
}

/// In a test the own program is that of all tests, one of which is the child.
#[cfg(test)]
pub(super) fn call(bounds: Bounds) -> (Vec<String>, Option<(String, String)>) {
    let args = ["--exact", "host::unpack::tests::the_child", "--nocapture", "--test-threads=1"];
    (args.map(str::to_owned).to_vec(), Some(("DROVER_TEST_UNPACK".to_owned(), text(bounds))))
}

fn text(bounds: Bounds) -> String {
    format!("{},{},{}", bounds.archive.bytes, bounds.archive.entries, bounds.file_bytes)
}

/// `drover-agent unpack --bounds BYTES,ENTRIES,FILE_BYTES`: the exit code.
#[must_use]
pub fn main(bounds: &str) -> i32 {
    let numbers: Vec<u64> = bounds.split(',').filter_map(|number| number.parse().ok()).collect();
    let &[bytes, entries, file_bytes] = numbers.as_slice() else {
        eprintln!("this command is the agent's own: it unpacks an artifact into the current directory");
        return 2;
    };
    let most = Most {
        file_bytes,
        memory_bytes: MEMORY_BYTES,
        cpu_seconds: CPU_SECONDS,
        open_files: OPEN_FILES,
        // No process beside this one: nothing of it can be alive when it has ended.
        processes: 1,
    };
    if let Err(error) = confine(Work::Tree, most) {
        say(&format!("cannot give up rights: {error}"));
        return 2;
    }
    match unpack(Limits { bytes, entries }) {
        Ok(_unpacked) => 0,
        Err(ArchiveError::Write { path, source }) => {
            say(&format!("{path}: {}", plain(&source)));
            CANNOT_WRITE
        }
        Err(error @ (ArchiveError::Entry { .. } | ArchiveError::TooLarge(_) | ArchiveError::Damaged(_))) => {
            say(&error.to_string());
            REFUSED
        }
    }
}

fn unpack(limits: Limits) -> Result<archive::Unpacked, ArchiveError> {
    let stdin: OwnedFd = io::stdin().as_fd().try_clone_to_owned().map_err(ArchiveError::Damaged)?;
    archive::unpack(File::from(stdin), Path::new("."), limits)
}

/// Which limit a signal stands for.
pub(super) fn limit_behind(signal: i32) -> String {
    use rustix::process::Signal;
    match Signal::from_named_raw(signal) {
        Some(Signal::XCPU) => format!("it used more than {CPU_SECONDS} s of processor time"),
        Some(Signal::XFSZ) => "a file in it is larger than allowed".to_owned(),
        Some(Signal::ABORT) => format!("it broke, or used more than {} MiB of memory", MEMORY_BYTES >> 20),
        _ => "somebody killed it, perhaps since the host is out of memory".to_owned(),
    }
}
