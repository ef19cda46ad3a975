//! Steps for what must be there first: packages, users, directories, the release's tree. Beside `plan`.

use drover_proto::{
    app::DirectoryNeed,
    code::Code,
    name::UserName,
    plan::{Action, Reason, Step},
};

use super::{Input, Refusals, step};
use crate::{
    host::{files::FileState, swap::SwapFile},
    observe::{Observed, Seen},
    render::Rendered,
};

/// Packages, then users, then directories.
pub(super) fn steps(wanted: &Rendered, input: &Input<'_>, refusals: &mut Refusals) -> Vec<Step> {
    let observed = input.observed;
    let mut steps = Vec::new();
    if !observed.packages_missing.is_empty() {
        steps.push(step(Action::InstallPackages(observed.packages_missing.clone()), Reason::Missing));
    }
    for user in &wanted.needs.users {
        if observed.users.get(&user.name).is_none_or(Option::is_none) {
            steps.push(step(Action::CreateUser(user.clone()), Reason::Missing));
        }
    }
    steps.extend(swap(wanted, observed, refusals));
    for directory in &wanted.needs.directories {
        if input.layout.reserves(&directory.path) {
            let message =
                format!("{} is in drover's own directories on this host; choose another path", directory.path);
            refusals.say(Code::UnsafePath, &directory.path, message);
            continue;
        }
        steps.extend(directory_step(directory, observed, refusals));
    }
    accounts(wanted, observed, refusals);
    steps
}

/// Swap that is there, whoever made it, is swap enough. Unknown where nobody has looked: then nothing is done.
fn swap(wanted: &Rendered, observed: &Observed, refusals: &mut Refusals) -> Option<Step> {
    let (size_bytes, seen) = (wanted.needs.swap_bytes?, observed.preflight.swap?);
    if seen.has(size_bytes) {
        return None;
    }
    match (seen.unfit, seen.file) {
        (Some(unfit), _) => {
            let message = format!("/ is on {unfit}, where no swap file can be; make swap by hand, or drop host.swap");
            refusals.say(Code::HostNeed, "swap", message);
            None
        }
        (None, SwapFile::Ready(there)) if there < size_bytes => {
            let message = "/swapfile is there and smaller; swapoff and remove it, or ask for as much as it has";
            refusals.say(Code::HostNeed, "swap", message);
            None
        }
        (None, SwapFile::Other) => {
            refusals.say(Code::UnsafePath, "swap", "/swapfile is there and is no swap file; remove it");
            None
        }
        (None, SwapFile::Missing | SwapFile::Ready(_)) => Some(step(Action::MakeSwap { size_bytes }, Reason::Missing)),
    }
}

fn directory_step(want: &DirectoryNeed, observed: &Observed, refusals: &mut Refusals) -> Option<Step> {
    let reason = match observed.directories.get(&want.path) {
        None | Some(Seen::Is(FileState::Missing)) => Reason::Missing,
        Some(Seen::Is(FileState::Directory { uid, gid, mode })) => {
            let owner = observed.users.get(&want.owner).copied().flatten();
            let group = observed.groups.get(&want.group).copied().flatten();
            if (owner, group, *mode) == (Some(*uid), Some(*gid), want.mode) {
                return None;
            }
            Reason::OwnerOrModeDiffers
        }
        Some(Seen::Is(FileState::File { .. } | FileState::Symlink | FileState::Other)) => {
            let message = format!("{} is there and is no directory; remove it, or choose another path", want.path);
            refusals.say(Code::UnsafePath, &want.path, message);
            return None;
        }
        Some(Seen::Unsafe(why)) => {
            refusals.say(Code::UnsafePath, &want.path, why);
            return None;
        }
    };
    Some(step(Action::EnsureDirectory(want.clone()), reason))
}

/// A user who is neither there nor about to be made. Packages may bring users, so that while some are missing nobody
/// can say.
fn accounts(wanted: &Rendered, observed: &Observed, refusals: &mut Refusals) {
    if !observed.packages_missing.is_empty() {
        return;
    }
    let made = |name: &UserName| wanted.needs.users.iter().any(|user| user.name == *name);
    for (name, _) in observed.users.iter().filter(|(name, uid)| uid.is_none() && !made(name)) {
        refusals.say(Code::NoSuchUser, name, format!("user {name} does not exist; add it under host.users"));
    }
    for (name, _) in observed.groups.iter().filter(|(name, gid)| gid.is_none() && !made(name)) {
        refusals.say(Code::NoSuchUser, name, format!("group {name} does not exist; add it under host.users"));
    }
}

/// Fetch, unpack, build, unless the tree is there.
pub(super) fn tree(wanted: &Rendered, observed: &Observed) -> Vec<Step> {
    let Some(tree) = wanted.tree.as_ref().filter(|_| !observed.tree_sealed) else { return Vec::new() };
    let (digest, directory) = (tree.digest, tree.directory.clone());
    let from = tree.origin.shown().map(str::to_owned);
    let mut steps = vec![
        step(Action::Fetch { digest, size_bytes: tree.size_bytes, from }, Reason::New),
        step(Action::Unpack { digest, directory: directory.clone() }, Reason::New),
    ];
    if let Some(build) = &tree.build {
        let (user, run, timeout) = (build.user.clone(), build.run.clone(), build.timeout);
        steps.push(step(Action::Build { directory, user, run, timeout }, Reason::New));
    }
    steps
}
