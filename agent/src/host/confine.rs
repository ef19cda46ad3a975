//! What a child of the agent's own program gives up before it touches what others made: more rights, room, memory, time,
//! and by Landlock every place but its own. The children of `unpack` and of `git` begin with it.

use std::fs::File;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};

/// What a child does for its living; everything else is forbidden.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// Writes a tree below the current directory. Opens nothing else, starts nothing, reaches nobody.
    Tree,
    /// Speaks to servers and starts programs that do, reads what anyone may, writes below the current directory.
    Client,
}

/// How much it may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Most {
    /// In one file.
    pub(super) file_bytes: u64,
    /// As address space, of one process.
    pub(super) memory_bytes: u64,
    /// Of one process.
    pub(super) cpu_seconds: u64,
    /// Of one process.
    pub(super) open_files: u64,
    /// Of its user.
    pub(super) processes: u64,
}

/// From here on this process and what it starts can do its work and nothing else, within limits. Threads that are there
/// already would not be bound.
pub(super) fn confine(work: Work, most: Most) -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        return Err("it runs as root".to_owned());
    }
    let limits = [
        (Resource::Core, 0),
        (Resource::Fsize, most.file_bytes),
        (Resource::As, most.memory_bytes),
        (Resource::Cpu, most.cpu_seconds),
        (Resource::Nofile, most.open_files),
        (Resource::Nproc, most.processes),
    ];
    for (resource, most) in limits {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(|e| format!("{resource:?}: {e}"))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(|e| e.to_string())?;
    let here = File::open(".").map_err(|e| e.to_string())?;
    match landlock(work, &here) {
        // Without it the user alone keeps it in bounds; the agent says so when it starts.
        Ok(()) | Err(RulesetError::CreateRuleset(_) | RulesetError::HandleAccesses(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn landlock(work: Work, here: &File) -> Result<(), RulesetError> {
    let rules = ruleset(work)?;
    match work {
        Work::Tree => {
            let write = AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::MakeSym
                | AccessFs::WriteFile
                | AccessFs::ReadDir
                | AccessFs::Refer;
            rules.add_rule(PathBeneath::new(here, write))?.restrict_self()?;
        }
        Work::Client => {
            let rules = rules.add_rule(PathBeneath::new(here, AccessFs::from_write(ABI::V6)))?;
            // Where programs put what nobody wants to read.
            let rules = match PathFd::new("/dev/null") {
                Ok(null) => rules.add_rule(PathBeneath::new(null, AccessFs::WriteFile))?,
                Err(_) => rules,
            };
            rules.restrict_self()?;
        }
    }
    Ok(())
}

/// Everything that the kernel can forbid to that work; an error where it has no Landlock, has it turned off, or has one too
/// old to let a hard link lead from one directory of the tree to another.
fn ruleset(work: Work) -> Result<RulesetCreated, RulesetError> {
    let (files, network): (fn(ABI) -> _, _) = match work {
        Work::Tree => (AccessFs::from_all, AccessNet::from_all(ABI::V6)),
        // To listen is a server's.
        Work::Client => (AccessFs::from_write, AccessNet::BindTcp.into()),
    };
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(files(ABI::V2))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(files(ABI::V6))?
        .handle_access(network)?
        .scope(Scope::from_all(ABI::V6))?
        .create()
}

/// Whether this kernel can confine a child by Landlock. Confines nobody.
pub(super) fn has_landlock() -> bool {
    ruleset(Work::Tree).is_ok()
}
