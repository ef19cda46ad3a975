//! The real child, on good archives, bad ones, and some that never end. Needs root, as the agent does.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
};

use std::io::Read as _;

use super::*;

/// Not a test when run as one: this is the program that `unpack` starts.
#[test]
fn the_child() {
    if let Ok(bounds) = std::env::var("DROVER_TEST_UNPACK") {
        std::process::exit(child::main(&bounds));
    }
}

struct Scratch {
    top: tempfile::TempDir,
    into: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        Self::within("/var/cache")
    }

    fn within(place: &str) -> Self {
        let top = tempfile::tempdir_in(place).unwrap();
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { into: top.path().join("tree"), top }
    }

    async fn unpack(&self, archive: &[u8], bounds: Bounds) -> Result<(), UnpackError> {
        let file = self.top.path().join("a.tar");
        fs::write(&file, archive).unwrap();
        unpack(File::open(file).unwrap(), &self.into, bounds).await
    }
}

fn tar(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        if kind.is_file() {
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        } else {
            header.set_size(0);
            tar.append_link(&mut header, name, text).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

const FILE: tar::EntryType = tar::EntryType::Regular;

#[tokio::test]
async fn a_tree_belongs_to_the_user_who_unpacked_it() {
    let scratch = Scratch::new();
    let link = tar::EntryType::Link;
    let bytes = tar(&[("bin/run", FILE, "x"), ("lib/run", link, "bin/run"), ("now", tar::EntryType::Symlink, "bin")]);
    let zst = zstd::encode_all(bytes.as_slice(), 3).unwrap();
    scratch.unpack(&zst, Bounds::of(zst.len() as u64)).await.unwrap();
    let nobody = account().unwrap().uid;
    for name in ["", "bin", "bin/run", "lib/run", "now"] {
        assert_eq!(fs::symlink_metadata(scratch.into.join(name)).unwrap().uid(), nobody, "{name}");
    }
    assert_eq!(fs::metadata(scratch.into.join("lib/run")).unwrap().nlink(), 2);
}

#[tokio::test]
async fn a_bad_archive_is_refused_in_the_childs_words_and_leaves_nothing() {
    let scratch = Scratch::new();
    let bytes = tar(&[("ok", FILE, "x"), ("evil", tar::EntryType::Symlink, "/etc/passwd")]);
    let error = scratch.unpack(&bytes, Bounds::of(1)).await.unwrap_err();
    assert!(matches!(error, UnpackError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("entry \"evil\" links to"), "{error}");
    assert!(!scratch.into.exists());
    let error = scratch.unpack(b"no archive at all", Bounds::of(1)).await.unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

#[tokio::test]
async fn bombs_end_soon() {
    let scratch = Scratch::new();
    let zeros = zstd::encode_all(std::io::repeat(0).take(400 << 20), 1).unwrap();
    let mut bomb = Vec::new();
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(400 << 20);
        header.set_mode(0o644);
        header.set_path("zeros").unwrap();
        header.set_cksum();
        bomb.extend(zstd::encode_all(header.as_bytes().as_slice(), 1).unwrap());
        bomb.extend(zeros);
    }
    let error = scratch.unpack(&bomb, Bounds::of(bomb.len() as u64)).await.unwrap_err();
    assert!(error.to_string().contains("more than 268435456 bytes"), "{error}");
    // A million files of nothing.
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    for i in 0..1_000_000 {
        header.set_path(format!("f{i}")).unwrap();
        header.set_cksum();
        io::Write::write_all(&mut encoder, header.as_bytes()).unwrap();
    }
    let many = encoder.finish().unwrap();
    let bounds = Bounds::of(many.len() as u64);
    let few = Bounds { archive: Limits { entries: 20_000, ..bounds.archive }, ..bounds };
    let error = scratch.unpack(&many, few).await.unwrap_err();
    assert!(error.to_string().contains("more than 20000 entries"), "{error}");
    assert!(!scratch.into.exists());
}

#[tokio::test]
async fn a_child_that_hangs_or_uses_too_much_is_killed() {
    let scratch = Scratch::new();
    let bounds = Bounds::of(1);
    let large = tar(&[("large", FILE, &"x".repeat(2 << 20))]);
    let error = scratch.unpack(&large, Bounds { file_bytes: 1 << 20, ..bounds }).await.unwrap_err();
    assert!(error.to_string().contains("a file in it is larger than allowed"), "{error}");
    let (reader, _never_closed) = std::io::pipe().unwrap();
    let endless = File::from(std::os::fd::OwnedFd::from(reader));
    let bounds = Bounds { timeout: Duration::from_millis(500), ..bounds };
    let error = unpack(endless, &scratch.into, bounds).await.unwrap_err();
    assert!(error.to_string().contains("took longer than 0.5 s"), "{error}");
    assert!(!scratch.into.exists());
}

#[test]
fn only_the_agent_can_be_root() {
    // In this process, which is root: it refuses before it reads anything.
    assert_eq!(child::main("1,1,1"), 2);
    assert_eq!(child::main("nonsense"), 2);
}

#[test]
fn bounds_grow_with_the_archive() {
    assert_eq!(Bounds::of(1).archive.bytes, 256 << 20);
    assert_eq!(Bounds::of(10 << 20).archive.bytes, 2000 << 20);
    assert_eq!(Bounds::of(1 << 30).archive.bytes, limits::MAX_UNPACKED_BYTES);
}

/// The limits of the product: it ends at the limit, long before the archive does.
#[tokio::test]
async fn a_million_files_are_refused() {
    // A disk would take a minute for so many.
    let scratch = Scratch::within("/dev/shm");
    let mut zst = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(FILE);
    header.set_mode(0o644);
    header.set_size(0);
    for n in 0..1_000_000 {
        header.as_old_mut().name[..8].copy_from_slice(format!("f{n:07}").as_bytes());
        header.set_cksum();
        io::Write::write_all(&mut zst, header.as_bytes()).unwrap();
    }
    let bytes = zst.finish().unwrap();
    let error = scratch.unpack(&bytes, Bounds::of(bytes.len() as u64)).await.unwrap_err();
    assert!(error.to_string().contains("more than 200000 entries"), "{error}");
    assert!(!scratch.into.exists());
}
