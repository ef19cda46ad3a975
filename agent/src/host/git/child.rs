//! The child side of `git`: gives up what it can, then becomes git.

use drover_proto::limits::MAX_ARTIFACT_BYTES;

use crate::host::{
    confine::{Most, Work, confine},
    process::{self, GIT},
};

/// Exit code: git could not be begun.
const NOT_STARTED: i32 = 126;

const MOST: Most = Most {
    file_bytes: MAX_ARTIFACT_BYTES,
    // What git maps and keeps of a repository is bounded by its settings, well below.
    memory_bytes: 2 << 30,
    cpu_seconds: 1800,
    open_files: 256,
    // Half a dozen of its own at most, for each of a few.
    processes: 64,
};

/// `drover-agent git ARGS…`: the exit code, if it does not become git.
#[must_use]
pub fn main(args: &[String]) -> i32 {
    match confine(Work::Client, MOST) {
        Err(error) => eprintln!("fatal: git is not started, since rights cannot be given up: {error}"),
        Ok(()) => eprintln!("fatal: git cannot be started: {}", process::become_program(GIT, args)),
    }
    NOT_STARTED
}
