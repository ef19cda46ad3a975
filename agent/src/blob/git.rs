//! Artifacts from git repositories: one commit, without its history, in a repository that is thrown away when the commit
//! has been written to an archive, which is then unpacked like any other. git itself checks that each object is what its
//! name says. Beside `blob`; `host/git` holds the lead.
//!
//! git cannot go on in the middle of a transfer. So once one has broken off, the commit is fetched in pieces, as far as the
//! server gives pieces, and what has come of them is kept for the next attempt.

use std::{
    io::{self, BufRead as _, Read as _, Seek as _},
    path::Path,
    time::Duration,
};

use drover_proto::{
    limits::{MAX_ARCHIVE_ENTRIES, MAX_ARTIFACT_BYTES},
    secret::Secret,
    source::Commit,
};
use rustix::process::Signal;
use tokio::time::interval;

use super::{Attempt, BlobError, PATIENCE, REACH_TIMEOUT, disk};
use crate::{
    host::{
        git::{Workplace, WorkplaceError, is_here},
        process::{Ended, Outcome},
    },
    render::GitTree,
};

/// How the names of archives end that are not whole yet.
const PART: &str = ".part";
/// For what only this host does.
const LOCAL: Duration = Duration::from_secs(600);
/// What a server says that gives only what its branches and tags lead to.
const UNADVERTISED: &str = "does not allow request for unadvertised object";
/// Into how many pieces files are divided, and how many are in one at most.
const PIECES: usize = 16;
const MAX_PER_PIECE: usize = 1000;
/// A list of more objects than any archive may have.
const MAX_LIST_BYTES: u64 = 66 * MAX_ARCHIVE_ENTRIES;
/// Between two looks at how much has come.
const LOOK: Duration = Duration::from_millis(500);

/// What is asked for.
pub(super) struct Wanted<'a> {
    /// Where, and what.
    pub(super) tree: &'a GitTree,
    /// The header's value; said to the server of `tree.url` and to no other.
    pub(super) authorization: Option<&'a Secret<String>>,
    /// Where git may work.
    pub(super) within: &'a Path,
}

/// What one attempt leaves to the next.
#[derive(Default)]
pub(super) enum UnderWay {
    /// There was none.
    #[default]
    Nothing,
    /// It broke off before anything was whole.
    Broken,
    /// The commit and its folders, and perhaps some of its files.
    Folders(Workplace),
}

/// One attempt: the commit as an archive at `path`. `have` grows by the bytes that come.
pub(super) async fn fetch(
    wanted: &Wanted<'_>,
    under_way: &mut UnderWay,
    path: &Path,
    have: &mut u64,
) -> Result<(), Attempt> {
    let place = match std::mem::take(under_way) {
        UnderWay::Folders(place) => place,
        before => {
            let in_pieces = matches!(before, UnderWay::Broken);
            *under_way = UnderWay::Broken;
            let place = begin(wanted).await?;
            commit(wanted, &place, in_pieces, have).await?;
            place
        }
    };
    if let Err(trouble) = files(wanted, &place, have).await {
        // A server that gives no single files is asked for all of them again.
        let gives_none = matches!(&trouble, Attempt::Again(why) if why.contains(UNADVERTISED));
        if !gives_none {
            place.clear().map_err(|e| Attempt::Never(disk(wanted.within, e)))?;
            *under_way = UnderWay::Folders(place);
        }
        return Err(trouble);
    }
    archive(wanted, &place, path).await
}

/// Fetches the commit, `in_pieces` without its files.
async fn commit(wanted: &Wanted<'_>, place: &Workplace, in_pieces: bool, have: &mut u64) -> Result<(), Attempt> {
    let commit = wanted.tree.commit.as_str();
    let mut one = vec!["fetch", "--quiet", "--no-tags", "--depth=1"];
    if in_pieces {
        // A server that does not know that gives all.
        one.push("--filter=blob:none");
    }
    one.extend(["origin", commit]);
    let outcome = watched(wanted, place, &one, have).await?;
    if !says(&outcome, UNADVERTISED) {
        return done(wanted, &outcome);
    }
    // An older server gives no commit by its name, but all that branches and tags lead to.
    let all = ["fetch", "--quiet", "--no-tags", "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
    done(wanted, &watched(wanted, place, &all, have).await?)?;
    let there = format!("{commit}^{{commit}}");
    if !run(place, &["cat-file", "-e", &there], LOCAL, None).await?.ok() {
        return Err(refused(unknown_commit(wanted)));
    }
    Ok(())
}

/// Fetches the files that are not here yet; all are, unless the commit was fetched in pieces.
async fn files(wanted: &Wanted<'_>, place: &Workplace, have: &mut u64) -> Result<(), Attempt> {
    let never = |e: io::Error| Attempt::Never(disk(wanted.within, e));
    let list = tempfile::tempfile_in(wanted.within).map_err(never)?;
    let args = ["rev-list", "--objects", "--missing=print", "--no-object-names", &content(wanted)];
    let outcome = run(place, &args, LOCAL, Some(list.try_clone().map_err(never)?)).await?;
    if !outcome.ok() {
        return Err(without_folder(wanted, &outcome));
    }
    let missing = missing(list).map_err(never)?;
    let per_piece = (missing.len() / PIECES).clamp(1, MAX_PER_PIECE);
    for piece in missing.chunks(per_piece) {
        let args = ["fetch", "--quiet", "--no-tags", "origin"].into_iter().chain(piece.iter().map(Commit::as_str));
        done(wanted, &watched(wanted, place, &args.collect::<Vec<_>>(), have).await?)?;
    }
    Ok(())
}

/// The objects that git has marked as missing, in its list of all.
fn missing(mut list: std::fs::File) -> io::Result<Vec<Commit>> {
    list.rewind()?;
    let mut found = Vec::new();
    for line in io::BufReader::new(list.take(MAX_LIST_BYTES)).lines() {
        // Nothing but the name of an object becomes an argument.
        found.extend(line?.strip_prefix('?').and_then(|name| name.parse::<Commit>().ok()));
    }
    Ok(found)
}

/// Whether the repository is there and may be read, in one sentence if not. Fetches nothing.
pub(super) async fn reach(wanted: &Wanted<'_>) -> Result<(), String> {
    let asked = async {
        let place = begin(wanted).await?;
        let outcome = run(&place, &["ls-remote", "--quiet", "origin", "HEAD"], REACH_TIMEOUT, None).await?;
        match outcome.ended {
            Ended::TimedOut => Err(Attempt::Again(format!("no answer within {} s", REACH_TIMEOUT.as_secs()))),
            _ => done(wanted, &outcome),
        }
    };
    match asked.await {
        Ok(()) => Ok(()),
        Err(Attempt::Again(why)) => Err(why),
        Err(Attempt::Never(error)) => Err(error.to_string()),
    }
}

async fn begin(wanted: &Wanted<'_>) -> Result<Workplace, Attempt> {
    if !is_here() {
        return Err(refused("there is no git on this host; add git to host.packages".to_owned()));
    }
    let place =
        Workplace::make(wanted.within, &wanted.tree.url, wanted.authorization).map_err(|error| match error {
            WorkplaceError::Disk { path, source } => Attempt::Never(disk(&path, source)),
            WorkplaceError::User(error) => refused(error.to_string()),
        })?;
    let template = format!("--template={}", place.template().display());
    let mut args = vec!["init", "--quiet", "--bare", &template];
    if wanted.tree.commit.is_sha256() {
        args.push("--object-format=sha256");
    }
    done(wanted, &run(&place, &args, LOCAL, None).await?)?;
    Ok(place)
}

async fn run(
    place: &Workplace,
    args: &[&str],
    timeout: Duration,
    stdout: Option<std::fs::File>,
) -> Result<Outcome, Attempt> {
    place.run(args, timeout, stdout).await.map_err(|error| refused(format!("git could not be run: {error}")))
}

/// Runs a fetch, and adds to `have` what comes all the while.
async fn watched(wanted: &Wanted<'_>, place: &Workplace, args: &[&str], have: &mut u64) -> Result<Outcome, Attempt> {
    let mut running = std::pin::pin!(run(place, args, PATIENCE, None));
    let (mut look, mut seen) = (interval(LOOK), place.size_bytes());
    loop {
        tokio::select! {
            outcome = &mut running => return outcome,
            _ = look.tick() => {
                let size = place.size_bytes();
                if size > MAX_ARTIFACT_BYTES {
                    return Err(refused(too_large(wanted)));
                }
                *have += size.saturating_sub(seen);
                seen = size.max(seen);
            }
        }
    }
}

/// Writes what the commit holds to an archive that only root has ever had a name for. Another app may be making the same
/// one just now: each has a file of its own until it is whole.
async fn archive(wanted: &Wanted<'_>, place: &Workplace, path: &Path) -> Result<(), Attempt> {
    let never = |e: io::Error| Attempt::Never(disk(path, e));
    let directory = path.parent().unwrap_or(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = tempfile::Builder::new().prefix(&format!("{name}.")).suffix(PART).tempfile_in(directory);
    let new = new.map_err(never)?;
    let out = new.as_file().try_clone().map_err(never)?;
    let outcome = run(place, &["archive", "--format=tar", &content(wanted)], LOCAL, Some(out)).await?;
    if !outcome.ok() {
        return Err(without_folder(wanted, &outcome));
    }
    let whole = new.as_file().try_clone().map_err(never)?;
    tokio::fs::File::from_std(whole).sync_all().await.map_err(never)?;
    new.persist(path).map(drop).map_err(|e| never(e.error))
}

/// The tree of the commit, or that of the folder, in git's words.
fn content(wanted: &Wanted<'_>) -> String {
    format!("{}:{}", wanted.tree.commit, wanted.tree.directory.as_deref().unwrap_or_default())
}

/// What it means that git cannot read the tree of a commit that is here.
fn without_folder(wanted: &Wanted<'_>, outcome: &Outcome) -> Attempt {
    let phrases = ["not a valid object name", "not a tree object", "does not exist in", "unknown revision"];
    match (&wanted.tree.directory, done(wanted, outcome)) {
        (Some(directory), _) if phrases.iter().any(|phrase| says(outcome, phrase)) => {
            let commit = wanted.tree.commit.short();
            refused(format!("commit {commit} has no folder {directory}; check artifact.path"))
        }
        (_, Err(attempt)) => attempt,
        (_, Ok(())) => Attempt::Again(format!("{}: git broke off", wanted.tree.url)),
    }
}

/// What git has to say for itself. What the server says (`remote:`) is anybody's word.
fn words(outcome: &Outcome) -> impl DoubleEndedIterator<Item = &str> {
    outcome.tail.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with("remote:"))
}

fn says(outcome: &Outcome, what: &str) -> bool {
    words(outcome).any(|line| line.contains(what))
}

/// What a git that did not end well means: which of its words are final.
fn done(wanted: &Wanted<'_>, outcome: &Outcome) -> Result<(), Attempt> {
    if outcome.ok() {
        return Ok(());
    }
    let url = &wanted.tree.url;
    let any = |phrases: &[&str]| phrases.iter().any(|phrase| says(outcome, phrase));
    let xfsz = Signal::XFSZ.as_raw();
    if outcome.ended == Ended::Signal(xfsz) || any(&[&format!("died of signal {xfsz}"), "File too large"]) {
        return Err(refused(too_large(wanted)));
    }
    if any(&["No space left on device", "Disk quota exceeded"]) {
        return Err(Attempt::Never(disk(wanted.within, io::ErrorKind::StorageFull.into())));
    }
    if any(&["could not read Username", "could not read Password", "Authentication failed"])
        || any(&["returned error: 401", "returned error: 403"])
    {
        let hint = "check artifact.credentials and the secret that it names";
        return Err(refused(format!("{url} does not give it to this host; {hint}")));
    }
    if let Some(code) = [301, 302, 303, 307, 308].iter().find(|code| says(outcome, &format!("returned error: {code}")))
    {
        let hint = "redirects are not followed: write where the repository is under artifact.git";
        return Err(refused(format!("{url} answers {code}; {hint}")));
    }
    if any(&["not our ref", "couldn't find remote ref"]) {
        return Err(refused(unknown_commit(wanted)));
    }
    if any(&["not found", "returned error: 404", "is this a git repository?", "does not appear to be a git repository"])
    {
        let hint = "check artifact.git, and artifact.credentials: some servers say so to who may not know";
        return Err(refused(format!("{url} is no git repository; {hint}")));
    }
    if any(&["dumb http transport"]) {
        return Err(refused(format!("{url} does not speak git's smart protocol")));
    }
    // What fsck found wrong comes before git's last word, and says more.
    let last = words(outcome).find(|line| line.starts_with("error: object "));
    let last = last.or_else(|| words(outcome).rfind(|line| line.starts_with("fatal: ") || line.starts_with("error: ")));
    let last = last.map_or_else(|| outcome.ended.to_string(), |line| line[7..].to_owned());
    // What is wrong with an object does not change.
    if any(&["fsck error", "unknown option", "ut of memory", "rights cannot be given up", "git cannot be started"]) {
        return Err(refused(format!("{url}: {last}")));
    }
    Err(Attempt::Again(format!("{url}: {last}")))
}

fn unknown_commit(wanted: &Wanted<'_>) -> String {
    let (url, commit) = (&wanted.tree.url, wanted.tree.commit.short());
    format!("{url} has no commit {commit}; push it there, or check artifact.commit")
}

fn too_large(wanted: &Wanted<'_>) -> String {
    format!("what {} holds is more than {} MiB", wanted.tree.url, MAX_ARTIFACT_BYTES >> 20)
}

fn refused(why: String) -> Attempt {
    Attempt::Never(BlobError::Source(why))
}

#[cfg(test)]
mod tests {
    //! What git says, and what becomes of it. Its words are those of versions 2.25 to 2.47.
    use super::*;

    fn judged(lines: &[&str]) -> (bool, String) {
        let tree = GitTree {
            url: "https://h/a.git".to_owned(),
            commit: "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12".parse().unwrap(),
            directory: None,
        };
        let tail = lines.iter().map(|line| (*line).to_owned()).collect();
        let outcome = Outcome { ended: Ended::Code(128), tail, stdout: Vec::new() };
        let wanted = Wanted { tree: &tree, authorization: None, within: Path::new("/x") };
        match done(&wanted, &outcome).unwrap_err() {
            Attempt::Again(why) => (false, why),
            Attempt::Never(error) => (true, error.to_string()),
        }
    }

    #[test]
    fn a_refusal_is_final_and_says_what_to_do() {
        for (line, words) in [
            ("fatal: could not read Username for 'https://h': terminal prompts disabled", "check artifact.credentials"),
            ("fatal: Authentication failed for 'https://h/a.git/'", "check artifact.credentials"),
            (
                "fatal: unable to access 'https://h/a.git/': The requested URL returned error: 403",
                "artifact.credentials",
            ),
            (
                "fatal: unable to access 'https://h/a.git/': The requested URL returned error: 302",
                "answers 302; redirects",
            ),
            ("fatal: remote error: upload-pack: not our ref 2fd4", "no commit 2fd4e1c67a2d; push it"),
            ("fatal: repository 'https://h/a.git/' not found", "is no git repository"),
            ("fatal: https://h/a.git/info/refs not valid: is this a git repository?", "is no git repository"),
            ("fatal: dumb http transport does not support shallow capabilities", "smart protocol"),
            ("error: index-pack died of signal 25", "more than 2048 MiB"),
            ("fatal: write error: No space left on device", "cannot keep /x"),
            ("fatal: fsck error in packed object", "https://h/a.git: fsck error in packed object"),
        ] {
            let (never, said) = judged(&["remote: 404 not found", line, ""]);
            assert!(never && said.contains(words), "{line}: {never} {said}");
        }
    }

    #[test]
    fn trouble_on_the_way_is_tried_again_whatever_the_server_says() {
        for (lines, words) in [
            (
                &["remote: Repository not found", "error: RPC failed; curl 18 transfer closed", "fatal: early EOF"][..],
                "https://h/a.git: early EOF",
            ),
            (&["fatal: unable to access 'https://h/a.git/': Could not resolve host: h"], "Could not resolve host: h"),
            (&["fatal: unable to access 'https://h/a.git/': The requested URL returned error: 502"], "error: 502"),
            (&[], "exit code 128"),
        ] {
            let (never, said) = judged(lines);
            assert!(!never && said.contains(words), "{lines:?}: {never} {said}");
        }
    }
}
