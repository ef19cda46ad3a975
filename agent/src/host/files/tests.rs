//! Files on a real disk, as root: what is written, and what hostile users put in the way.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
};

use super::*;

const USER: u32 = 33;

/// A directory that only root can write on the way to, unlike /tmp.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/cache").unwrap()
}

fn abs(path: &Path) -> AbsPath {
    path.to_str().unwrap().parse().unwrap()
}

fn owned(path: &Path) -> (u32, u32, u32) {
    let m = fs::symlink_metadata(path).unwrap();
    (m.uid(), m.gid(), m.mode() & 0o7777)
}

fn is_unsafe<T: std::fmt::Debug>(result: Result<T, FileError>) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::UnsafePath, "{error}");
}

#[test]
fn what_is_too_large_to_be_drovers_is_not_read() {
    let top = scratch();
    let file = top.path().join("large");
    for (size, hashed) in [(MAX_HASHED_BYTES, true), (MAX_HASHED_BYTES + 1, false), (1 << 40, false)] {
        fs::File::create(&file).unwrap().set_len(size).unwrap();
        let FileState::File { digest, size: seen, .. } = state(&abs(&file)).unwrap() else { panic!() };
        assert_eq!((digest.is_some(), seen), (hashed, size));
    }
    // It may have grown since its size was asked for.
    assert_eq!(super::digest(&mut fs::File::open(&file).unwrap(), 0).unwrap(), None);
}

#[test]
fn a_file_is_written_seen_read_and_removed() {
    let top = scratch();
    let path = abs(&top.path().join("a/b/site.conf"));
    assert_eq!(state(&path).unwrap(), FileState::Missing);
    assert_eq!(read(&path, 10).unwrap(), None);
    assert!(!remove(&path).unwrap());
    for (content, mode) in [(&b"one"[..], 0o640), (b"two!", 0o600), (b"", 0o444)] {
        write_atomic(&path, content, USER, 4, mode).unwrap();
        let (digest, size) = (Some(Digest::of(content)), content.len() as u64);
        let seen = FileState::File { digest, uid: USER, gid: 4, mode, size };
        assert_eq!(state(&path).unwrap(), seen);
        assert_eq!(read(&path, 4).unwrap().as_deref(), Some(content));
    }
    assert_eq!(owned(&top.path().join("a/b")), (0, 0, 0o755));
    let names: Vec<_> = fs::read_dir(top.path().join("a/b")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["site.conf"], "a temporary file is left");
    assert!(remove(&path).unwrap());
    assert_eq!(state(&path).unwrap(), FileState::Missing);
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let top = scratch();
    let path = abs(&top.path().join("big"));
    write_atomic(&path, b"12345", 0, 0, 0o600).unwrap();
    assert!(matches!(read(&path, 4), Err(FileError::TooLarge { max: 4, .. })));
}

#[test]
fn nothing_but_a_regular_file_is_replaced_or_read() {
    let top = scratch();
    let at = |name: &str| top.path().join(name);
    fs::write(at("target"), "kept").unwrap();
    symlink(at("target"), at("link")).unwrap();
    symlink("/no/such", at("dangling")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), Mode::from_raw_mode(0o600)).unwrap();
    for name in ["link", "dangling", "directory", "pipe"] {
        is_unsafe(write_atomic(&abs(&at(name)), b"new", 0, 0, 0o644));
        is_unsafe(read(&abs(&at(name)), 100));
    }
    assert_eq!(fs::read(at("target")).unwrap(), b"kept");
    assert_eq!(state(&abs(&at("link"))).unwrap(), FileState::Symlink);
    assert_eq!(state(&abs(&at("pipe"))).unwrap(), FileState::Other);
    let mode = fs::metadata(at("directory")).unwrap().mode() & 0o7777;
    assert_eq!(state(&abs(&at("directory"))).unwrap(), FileState::Directory { uid: 0, gid: 0, mode });
    is_unsafe(remove(&abs(&at("directory"))));
    assert!(remove(&abs(&at("link"))).unwrap(), "a link itself can be removed");
    assert_eq!(fs::read(at("target")).unwrap(), b"kept");
}

#[test]
fn links_on_the_way_are_followed_only_where_root_alone_can_put_them() {
    let top = scratch();
    let at = |name: &str| top.path().join(name);
    fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(at("real")).unwrap();
    symlink(at("real"), at("absolute")).unwrap();
    symlink("./absolute/../real", at("relative")).unwrap();
    symlink("loop", at("loop")).unwrap();
    for link in ["absolute", "relative"] {
        write_atomic(&abs(&at(link).join("file")), link.as_bytes(), 0, 0, 0o644).unwrap();
        assert_eq!(fs::read(at("real/file")).unwrap(), link.as_bytes());
    }
    is_unsafe(write_atomic(&abs(&at("loop/file")), b"x", 0, 0, 0o644));

    // a user's own directory, and links of his
    fs::create_dir(at("home")).unwrap();
    symlink(at("real"), at("home/link")).unwrap();
    chown(at("home"), Some(USER), Some(USER)).unwrap();
    let through = abs(&at("home/link/file"));
    is_unsafe(write_atomic(&through, b"x", 0, 0, 0o644));
    is_unsafe(state(&through));
    is_unsafe(read(&through, 10));
    is_unsafe(remove(&through));
    is_unsafe(ensure_directory(&abs(&at("home/link/sub")), 0, 0, 0o755));
    // a link of his in root's directory, and one of root's where all can write
    std::os::unix::fs::lchown(at("absolute"), Some(USER), Some(USER)).unwrap();
    is_unsafe(state(&abs(&at("absolute/file"))));
    fs::set_permissions(top.path(), Permissions::from_mode(0o1777)).unwrap();
    is_unsafe(state(&abs(&at("relative/file"))));
    // without a link his directory is fine
    write_atomic(&abs(&at("home/file")), b"x", USER, USER, 0o600).unwrap();
    is_unsafe(write_atomic(&abs(&at("home/file/below")), b"x", 0, 0, 0o600));
}

#[test]
fn a_directory_is_made_and_mended_but_never_through_a_link() {
    let top = scratch();
    let path = abs(&top.path().join("log/mono"));
    assert!(ensure_directory(&path, USER, 4, 0o2750).unwrap());
    assert_eq!(owned(path.as_path()), (USER, 4, 0o2750));
    assert_eq!(owned(&top.path().join("log")), (0, 0, 0o755));
    assert!(!ensure_directory(&path, USER, 4, 0o2750).unwrap());
    assert!(ensure_directory(&path, 0, 0, 0o700).unwrap());
    assert_eq!(owned(path.as_path()), (0, 0, 0o700));
    fs::create_dir(top.path().join("secret")).unwrap();
    fs::set_permissions(top.path().join("secret"), Permissions::from_mode(0o700)).unwrap();
    symlink("secret", top.path().join("link")).unwrap();
    is_unsafe(ensure_directory(&abs(&top.path().join("link")), USER, USER, 0o777));
    assert_eq!(owned(&top.path().join("secret")), (0, 0, 0o700));
}

#[test]
fn private_state_is_whole_and_private() {
    let top = scratch();
    let path = top.path().join("desired.json");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    write_private(&path, b"new").unwrap();
    assert_eq!((fs::read(&path).unwrap().as_slice(), owned(&path)), (&b"new"[..], (0, 0, 0o600)));
    assert!(write_private(&top.path().join("none/x"), b"x").is_err());
}
