//! git, held on a short lead: the agent's own child as the user that unpacks (`child`), an environment from nothing, and
//! settings from a file that git can read and not change. Whoever is to be told a secret is told by that file, which is
//! gone when the workplace is.
//!
//! Works with git 2.25. `blob/git` says what is to be fetched, and judges what git says.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use drover_proto::secret::Secret;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};

use super::{
    process::{self, Command, GIT, ITSELF, Outcome, ProcessError},
    unpack::{self, UnpackError},
    users::Account,
};

pub mod child;

/// How the names of workplaces begin, beside the releases; no app is called so.
pub const WORKPLACE: &str = ".git-";
const SETTINGS: &str = ".gitconfig";
/// Deeper or more files than this no repository of ours has: branches are files, and a `/` in their names is a directory.
const MAX_DEPTH: usize = 64;
const MAX_FILES: u64 = 100_000;

/// What every repository begins with. A commit is unpacked as it is: none of its own attributes may leave files out, fill
/// something in or convert them.
const ATTRIBUTES: &str = "* -text !eol !crlf -ident !filter !working-tree-encoding -export-ignore -export-subst\n";

/// An empty repository, and nothing else that git could write to. Going away it takes all of it along.
pub struct Workplace {
    top: tempfile::TempDir,
    repository: PathBuf,
    account: Account,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum WorkplaceError {
    /// The disk would not.
    #[error("cannot make {path}", path = .path.display())]
    Disk {
        /** What. */
        path: PathBuf,
        /** Why. */
        #[source]
        source: io::Error,
    },
    /// Nobody is there to run git as.
    #[error(transparent)]
    User(#[from] UnpackError),
}

impl Workplace {
    /// A place in directory `within`, for fetching from `url` and nowhere else. `authorization` is a header's value.
    pub fn make(within: &Path, url: &str, authorization: Option<&Secret<String>>) -> Result<Self, WorkplaceError> {
        let account = unpack::account()?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| WorkplaceError::Disk { path, source }
        };
        let top = tempfile::Builder::new().prefix(WORKPLACE).tempdir_in(within).map_err(failed(within))?;
        let (at, repository) = (top.path().to_owned(), top.path().join("repository"));
        let text = settings(url, authorization);
        let made = || {
            let attributes = at.join("template/info/attributes");
            DirBuilder::new().recursive(true).mode(0o755).create(at.join("template/info"))?;
            fs::write(attributes, ATTRIBUTES)?;
            readable(&at.join(SETTINGS), text.expose(), account.gid)?;
            DirBuilder::new().mode(0o700).create(&repository)?;
            chown(&repository, Some(account.uid), Some(account.gid))?;
            // Its user passes through, and changes nothing; all others stay outside.
            chown(&at, None, Some(account.gid))?;
            fs::set_permissions(&at, Permissions::from_mode(0o710))
        };
        made().map_err(failed(&at))?;
        Ok(Self { top, repository, account })
    }

    /// Runs git with these arguments. What it writes goes to `stdout`, if there is one.
    pub async fn run(&self, args: &[&str], timeout: Duration, stdout: Option<File>) -> Result<Outcome, ProcessError> {
        let args = ["git"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        let mut command = Command::new(ITSELF, args, timeout);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        command.account = Some(self.account.clone());
        command.cwd = Some(self.repository.clone());
        command.stdout = stdout.map(Arc::new);
        command.env.extend([
            ("HOME".to_owned(), text(self.top.path())),
            ("GIT_DIR".to_owned(), text(&self.repository)),
            ("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned()),
            ("GIT_ATTR_NOSYSTEM".to_owned(), "1".to_owned()),
            ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
        ]);
        process::run(command).await
    }

    /// Removes what a transfer that broke off has left in the repository. Whose it is may have put links there.
    pub fn clear(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = rustix::fs::open(&self.repository, flags, Mode::empty())?;
        for name in ["objects", "pack"] {
            directory = openat(&directory, name, flags, Mode::empty())?;
        }
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            if entry.file_name().to_bytes().starts_with(b"tmp_") {
                unlinkat(&directory, entry.file_name(), AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// The directory that a new repository is a copy of.
    #[must_use]
    pub fn template(&self) -> PathBuf {
        self.top.path().join("template")
    }

    /// What is in the repository by now, in bytes; files that come and go while it is counted may be left out.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let mut files = MAX_FILES;
        size_of(&self.repository, MAX_DEPTH, &mut files)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // Before all else: a git that is just being killed may hold up the removal of the rest, which the agent's next
        // start makes up for.
        if let Err(error) = fs::remove_file(self.top.path().join(SETTINGS)) {
            tracing::warn!(%error, path = %self.top.path().display(), "git's settings stay behind until the agent starts");
        }
    }
}

/// Whether there is a git on this host.
#[must_use]
pub fn is_here() -> bool {
    Path::new(GIT).is_file()
}

/// Writes a file that only root and one group can read.
fn readable(path: &Path, text: &str, group: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    std::os::unix::fs::fchown(&file, None, Some(group))?;
    file.set_permissions(Permissions::from_mode(0o640))
}

/// Neither follows links nor goes on for ever, whatever is made there meanwhile.
fn size_of(directory: &Path, depth: usize, files: &mut u64) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let mut bytes = 0_u64;
    for entry in entries.filter_map(Result::ok) {
        let Some(left) = files.checked_sub(1) else { return u64::MAX };
        *files = left;
        let Ok(data) = entry.metadata() else { continue };
        bytes = bytes.saturating_add(match data.is_dir() {
            true if depth == 0 => u64::MAX,
            true => size_of(&entry.path(), depth - 1, files),
            false => data.len(),
        });
    }
    bytes
}

/// git's settings: https to that server and nothing else, every object checked, nothing that could start a program, and
/// not much memory.
fn settings(url: &str, authorization: Option<&Secret<String>>) -> Secret<String> {
    let mut text = format!(
        "[core]
\thooksPath = /dev/null
\tattributesFile = /dev/null
\tbigFileThreshold = 16m
\tpackedGitWindowSize = 16m
\tpackedGitLimit = 256m
\tdeltaBaseCacheLimit = 64m
[pack]
\tthreads = 1
[gc]
\tauto = 0
[maintenance]
\tauto = false
[transfer]
\tfsckObjects = true
\tunpackLimit = 1
[fetch]
\trecurseSubmodules = false
[protocol]
\tallow = never
\tversion = 2
[protocol \"https\"]
\tallow = always
[credential]
\thelper =
[http]
\tfollowRedirects = false
\tlowSpeedLimit = 1
\tlowSpeedTime = 30
[remote \"origin\"]
\turl = \"{url}\"
"
    );
    if let Some(value) = authorization {
        // For URLs that begin so. The header is of base64 and cannot end the line.
        text.push_str(&format!("[http \"{url}\"]\n\textraHeader = \"Authorization: {}\"\n", value.expose()));
    }
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    //! Who can read what, and that nothing stays. git itself, with a server, is the lab's.
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_secret_is_in_one_file_that_goes_with_the_workplace() {
        let within = tempfile::tempdir_in("/var/cache").unwrap();
        let header = Secret::new("Basic eHg6c2VjcmV0".to_owned());
        let place = Workplace::make(within.path(), "https://example.org/a.git", Some(&header)).unwrap();
        let top = place.top.path().to_owned();
        let (file, account) = (top.join(SETTINGS), unpack::account().unwrap());
        let seen = |path: &Path| {
            let data = fs::symlink_metadata(path).unwrap();
            (data.uid(), data.gid(), data.mode() & 0o7777)
        };
        assert_eq!(seen(&file), (0, account.gid, 0o640), "git reads it and cannot change it");
        assert_eq!(seen(&top), (0, account.gid, 0o710), "nobody else gets there");
        assert_eq!(seen(&place.repository), (account.uid, account.gid, 0o700));
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.contains(
                "[http \"https://example.org/a.git\"]\n\textraHeader = \"Authorization: Basic eHg6c2VjcmV0\"\n"
            )
        );
        fs::write(place.repository.join("x"), [0; 1000]).unwrap();
        std::os::unix::fs::symlink("/usr", place.repository.join("away")).unwrap();
        assert!((1000..2000).contains(&place.size_bytes()), "{}", place.size_bytes());
        let pack = place.repository.join("objects/pack");
        fs::create_dir_all(&pack).unwrap();
        fs::write(pack.join("tmp_pack_x"), "x").unwrap();
        fs::write(pack.join("pack-x.pack"), "x").unwrap();
        place.clear().unwrap();
        assert!(pack.join("pack-x.pack").exists() && !pack.join("tmp_pack_x").exists());
        fs::remove_dir_all(&pack).unwrap();
        std::os::unix::fs::symlink("/tmp", &pack).unwrap();
        assert!(place.clear().is_err(), "a link was followed");
        drop(place);
        assert_eq!(fs::read_dir(within.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_public_repository_is_told_nothing() {
        let text = settings("https://example.org/a.git", None);
        assert!(!text.expose().contains("Authorization"));
    }
}
