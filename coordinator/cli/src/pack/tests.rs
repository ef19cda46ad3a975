//! The same content makes the same archive, and nothing leaves or enters the tree unseen.

use std::os::unix::fs::symlink;

use super::*;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("bin")).unwrap();
    fs::create_dir_all(dir.path().join(".git")).unwrap();
    fs::create_dir_all(dir.path().join("lib/__pycache__")).unwrap();
    fs::write(dir.path().join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.path().join("bin/run"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(dir.path().join("app.py"), "print(1)\n").unwrap();
    fs::write(dir.path().join("lib/__pycache__/x.pyc"), "x").unwrap();
    fs::write(dir.path().join(".git/HEAD"), "x").unwrap();
    symlink("../app.py", dir.path().join("bin/app")).unwrap();
    dir
}

fn packed(path: &Path, exclude: &[&str]) -> PackedArtifact {
    let exclude: Vec<String> = exclude.iter().map(ToString::to_string).collect();
    write(&scan(path, &exclude).unwrap(), &mut |_| {}).unwrap()
}

fn listing(packed: &PackedArtifact) -> Vec<String> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed.file.reopen().unwrap()).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        format!("{:o} {}", header.mode().unwrap(), entry.path().unwrap().display())
    });
    entries.collect()
}

#[test]
fn packing_twice_gives_the_same_bytes_and_only_what_belongs_in() {
    let (one, two) = (folder(), folder());
    fs::set_permissions(two.path().join("app.py"), fs::Permissions::from_mode(0o600)).unwrap();
    let (a, b) = (packed(one.path(), &["__pycache__"]), packed(two.path(), &["lib/__pycache__/"]));
    assert_eq!(a.digest, b.digest);
    assert_eq!(listing(&a), ["644 app.py", "755 bin", "777 bin/app", "755 bin/run", "755 lib"]);
    let bytes = fs::read(a.file.path()).unwrap();
    assert_eq!((Digest::of(&bytes), bytes.len() as u64), (a.digest, a.size_bytes));
    fs::write(two.path().join("app.py"), "print(2)\n").unwrap();
    assert_ne!(packed(two.path(), &["__pycache__"]).digest, a.digest);
}

#[test]
fn what_leaves_the_tree_or_is_no_file_is_refused_all_at_once() {
    let dir = folder();
    symlink("/etc/passwd", dir.path().join("abs")).unwrap();
    symlink("../../outside", dir.path().join("lib/up")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("sock")).unwrap();
    fs::write(dir.path().join("zz\n"), "x").unwrap();
    let said: Vec<String> = scan(dir.path(), &[]).unwrap_err().into_iter().map(|e| e.message).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[0].starts_with("abs is a link out of the artifact"), "{said:?}");
    assert!(scan(dir.path(), &["abs".into(), "lib".into(), "sock".into(), "zz*".into()]).is_ok());
    assert!(scan(dir.path(), &["[".into()]).unwrap_err()[0].message.contains("is no pattern"));
}

#[test]
fn archives_travel_as_they_are_and_other_files_do_not() {
    let dir = folder();
    let given = dir.path().join("a.tar.zst");
    fs::copy(packed(&dir.path().join("lib"), &[]).file.path(), &given).unwrap();
    assert_eq!(packed(&given, &[]).digest, Digest::of(&fs::read(&given).unwrap()));
    let refused = scan(&dir.path().join("app.py"), &[]).unwrap_err();
    assert_eq!(refused[0].message, "the file is no archive");
}
