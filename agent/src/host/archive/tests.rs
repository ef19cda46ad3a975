//! Archives as good and as bad as they come, unpacked for real as root.

use std::{
    fs as stdfs,
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
};

use rustix::fs::Mode;
use tar::{Builder, Header};

use super::*;

const ALL: Limits = Limits { bytes: 1 << 30, entries: 200_000 };

/// An entry of an archive in the making; names are written as they are, checked by nobody.
struct E<'a>(&'a str, EntryType, &'a str, u32);

fn header(name: &[u8], kind: EntryType, link: &[u8], size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(4242);
    header.set_gid(4242);
    header.set_mtime(99_999_999_999);
    header.set_cksum();
    header
}

fn tar_of(entries: &[E<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for E(name, kind, text, mode) in entries {
        let is_file = *kind == EntryType::Regular;
        let (link, content) = if is_file { ("", *text) } else { (*text, "") };
        let header = header(name.as_bytes(), *kind, link.as_bytes(), content.len() as u64, *mode);
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn scratch() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let top = tempfile::tempdir_in("/var/cache").unwrap();
    let (archive, into) = (top.path().join("a.tar"), top.path().join("tree"));
    (top, archive, into)
}

fn unpack_file(archive: &Path, into: &Path, limits: Limits) -> Result<Unpacked, ArchiveError> {
    stdfs::create_dir(into).unwrap();
    let result = unpack(File::open(archive).unwrap(), into, limits);
    if result.is_err() {
        stdfs::remove_dir_all(into).unwrap();
    }
    result
}

fn unpack_bytes(bytes: &[u8]) -> (tempfile::TempDir, PathBuf, Result<Unpacked, ArchiveError>) {
    let (top, archive, into) = scratch();
    stdfs::write(&archive, bytes).unwrap();
    (top, into.clone(), unpack_file(&archive, &into, ALL))
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const SYM: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

fn good() -> Vec<u8> {
    tar_of(&[
        E("./", DIR, "", 0o700),
        E("./bin/", DIR, "", 0o777),
        E("./bin/run", FILE, "#!/bin/sh\n", 0o700),
        E("lib/deep/data.txt", FILE, "data", 0o1666),
        E("lib/current", SYM, "deep", 0o777),
        E("bin/data", SYM, "../lib/deep/data.txt", 0o777),
        E("top", SYM, ".", 0o777),
        E("lib/again", HARD, "./lib/deep/data.txt", 0o644),
        E("bin/..odd name", FILE, "", 0),
    ])
}

#[test]
fn a_good_archive_is_unpacked_with_plain_owners_and_modes() {
    let gz = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &good()).unwrap();
        encoder.finish().unwrap()
    };
    for bytes in [good(), gz, zstd::encode_all(good().as_slice(), 3).unwrap()] {
        let (_top, into, result) = unpack_bytes(&bytes);
        assert_eq!(result.unwrap(), Unpacked { bytes: 14, entries: 10 });
        let look = |name: &str| {
            let m = into.join(name).symlink_metadata().unwrap();
            assert!(m.mtime() < 90_000_000_000, "{name}: the time of the archive was taken");
            (m.uid(), m.gid(), m.mode() & 0o7777)
        };
        for owner in [0, 33] {
            if owner > 0 {
                hand_over(&into, 0, (owner, owner)).unwrap();
            }
            for (name, mode) in [(".", 0o755), ("bin", 0o755), ("bin/run", 0o755), ("lib/deep", 0o755)] {
                assert_eq!(look(name), (owner, owner, mode), "{name}");
            }
            for name in ["lib/deep/data.txt", "lib/again", "bin/..odd name"] {
                assert_eq!(look(name), (owner, owner, 0o644), "{name}");
            }
            assert_eq!((look("bin/data").0, look("lib/current").0), (owner, owner));
        }
        assert_eq!(stdfs::read_to_string(into.join("bin/data")).unwrap(), "data");
        assert_eq!(into.join("lib/again").metadata().unwrap().nlink(), 2);
    }
}

#[test]
fn long_names_come_by_either_extension_and_are_judged_alike() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(140));
    let gnu = {
        let mut builder = Builder::new(Vec::new());
        let mut h = Header::new_gnu();
        h.set_size(2);
        h.set_mode(0o644);
        builder.append_data(&mut h, &long, &b"hi"[..]).unwrap();
        builder.into_inner().unwrap()
    };
    let pax = |name: &str| {
        let mut builder = Builder::new(Vec::new());
        builder.append_pax_extensions([("path", name.as_bytes())]).unwrap();
        builder.append(&header(b"short", FILE, b"", 2, 0o644), &b"hi"[..]).unwrap();
        builder.into_inner().unwrap()
    };
    for bytes in [gnu, pax(&long)] {
        let (_top, into, result) = unpack_bytes(&bytes);
        result.unwrap();
        assert_eq!(stdfs::read_to_string(into.join(&long)).unwrap(), "hi");
    }
    for bad in ["../out", "/etc/x", "a\nb"] {
        let (_top, into, result) = unpack_bytes(&pax(bad));
        assert!(result.is_err(), "{bad:?}: {result:?}");
        assert!(!into.exists());
    }
}

#[test]
fn bad_archives_are_refused_whole_and_name_the_entry() {
    let ok = || E("ok", FILE, "x", 0o644);
    let cases: Vec<(Vec<E<'_>>, &str)> = vec![
        (vec![ok(), E("../up", FILE, "x", 0o644)], "\"../up\" has '..'"),
        (vec![ok(), E("a/../../up", FILE, "x", 0o644)], "has '..'"),
        (vec![ok(), E("a/..", DIR, "", 0o755)], "has '..'"),
        (vec![ok(), E("/etc/evil", FILE, "x", 0o644)], "\"/etc/evil\" has an absolute path"),
        (vec![ok(), E("//etc", DIR, "", 0o755)], "absolute"),
        (vec![ok(), E("new\nline", FILE, "x", 0o644)], "control character"),
        (vec![ok(), E("\u{1b}[2J", FILE, "x", 0o644)], "control character"),
        (vec![ok(), E("l", SYM, "/etc/passwd", 0o777)], "\"l\" links to \"/etc/passwd\", an absolute path"),
        (vec![ok(), E("l", SYM, "..", 0o777)], "outside the tree"),
        (vec![ok(), E("d/l", SYM, "../../x", 0o777)], "outside the tree"),
        (vec![E("t", SYM, ".", 0o777), E("d/e/l", SYM, "../../t/../x", 0o777)], "'..' after a name"),
        (vec![E("l", SYM, "", 0o777)], "link to nowhere"),
        (vec![E("l", SYM, "a\tb", 0o777)], "link to nowhere"),
        (vec![E("d", DIR, "", 0o755), E("l", SYM, "d", 0o777), E("l/f", FILE, "x", 0o644)], "\"l/f\" lies below"),
        (vec![E("l", SYM, "ok", 0o777), E("l", FILE, "x", 0o644)], "is there twice"),
        (vec![E("l", SYM, "d", 0o777), E("l", DIR, "", 0o755)], "lies below, or replaces"),
        (vec![ok(), ok()], "\"ok\" is there twice"),
        (vec![ok(), E("ok/below", FILE, "x", 0o644)], "lies below"),
        (vec![E("d", DIR, "", 0o755), E("d", FILE, "x", 0o644)], "is there twice"),
        (vec![ok(), E("ok", DIR, "", 0o755)], "lies below, or replaces"),
        (vec![ok(), E("h", HARD, "/etc/passwd", 0o644)], "links to \"/etc/passwd\", outside"),
        (vec![ok(), E("h", HARD, "../x", 0o644)], "outside the tree"),
        (vec![ok(), E("h", HARD, "none", 0o644)], "no file that came before"),
        (vec![ok(), E("s", SYM, "ok", 0o777), E("h", HARD, "s", 0o644)], "no file that came before"),
        (vec![E("d/f", FILE, "", 0o644), E("s", SYM, "d", 0o777), E("h", HARD, "s/f", 0o644)], "no file that came"),
        (vec![ok(), E("h", HARD, ".", 0o644)], "no file that came before"),
        (vec![ok(), E("null", EntryType::Char, "", 0o666)], "\"null\" is a device node"),
        (vec![ok(), E("sda", EntryType::Block, "", 0o666)], "a device node"),
        (vec![ok(), E("pipe", EntryType::Fifo, "", 0o666)], "a named pipe"),
        (vec![ok(), E("odd", EntryType::new(b'Z'), "", 0o666)], "neither file, directory nor link"),
        (vec![ok(), E("root", FILE, "x", 0o4755)], "\"root\" has the SUID or SGID bit"),
        (vec![ok(), E("group", FILE, "x", 0o2755)], "SUID or SGID"),
        (vec![ok(), E("dir", DIR, "", 0o2755)], "SUID or SGID"),
        (vec![ok(), E(".", FILE, "x", 0o644)], "in place of the whole tree"),
    ];
    for (entries, wanted) in cases {
        let (top, into, result) = unpack_bytes(&tar_of(&entries));
        let said = result.expect_err(wanted).to_string();
        assert!(said.contains(wanted), "{said:?} should say {wanted:?}");
        assert!(!into.exists(), "{wanted}: half a tree is left");
        assert_eq!(stdfs::read_dir(top.path()).unwrap().count(), 1, "{wanted}: something was written beside the tree");
    }
}

#[test]
fn names_that_are_not_text_are_refused() {
    let mut builder = Builder::new(Vec::new());
    builder.append(&header(b"a\xff", FILE, b"", 0, 0o644), &b""[..]).unwrap();
    let (_top, _into, result) = unpack_bytes(&builder.into_inner().unwrap());
    assert!(result.unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn what_is_no_archive_or_half_of_one_is_refused() {
    let zst = zstd::encode_all(good().as_slice(), 3).unwrap();
    let mut flipped = good();
    flipped[5] ^= 1;
    let cut = [vec![], b"hello".to_vec(), zst[..zst.len() / 2].to_vec(), good()[..1100].to_vec(), flipped];
    for bytes in cut {
        let (_top, into, result) = unpack_bytes(&bytes);
        assert!(matches!(result, Err(ArchiveError::Damaged(_))), "{result:?}");
        assert!(!into.exists());
    }
}

#[test]
fn bombs_are_defused() {
    let (_top, archive, into) = scratch();
    let limits = Limits { bytes: 1000, entries: 10 };
    let check = |bytes: Vec<u8>, wanted: &str| {
        stdfs::write(&archive, bytes).unwrap();
        let said = unpack_file(&archive, &into, limits).unwrap_err().to_string();
        assert!(said.contains(wanted), "{said:?} should say {wanted:?}");
        assert!(!into.exists());
    };
    let zeros = "\0".repeat(40_000);
    check(zstd::encode_all(tar_of(&[E("big", FILE, &zeros, 0o644)]).as_slice(), 3).unwrap(), "more than 1000 bytes");
    let names: Vec<String> = (0..11).map(|i| format!("f{i}")).collect();
    check(tar_of(&names.iter().map(|n| E(n, FILE, "", 0o644)).collect::<Vec<_>>()), "more than 10 entries");
    // one entry, twelve directories on the way
    check(tar_of(&[E("a/b/c/d/e/f/g/h/i/j/k/l", FILE, "", 0o644)]), "more than 10 entries");
    let mut builder = Builder::new(Vec::new());
    let large = vec![b'x'; 40_000];
    builder.append(&header(b"././@LongLink", EntryType::GNULongName, b"", 40_000, 0o644), &large[..]).unwrap();
    check(builder.into_inner().unwrap(), "extension header that is too large");
    check(tar_of(&[E(&"a/".repeat(49), DIR, "", 0o755)]), "more than 10 entries");
}

#[test]
fn entries_that_make_nothing_count_too() {
    let limits = Limits { bytes: 1 << 30, entries: 10 };
    let (_top, archive, into) = scratch();
    let dots: Vec<E<'_>> = (0..41).map(|_| E("./", DIR, "", 0o755)).collect();
    stdfs::write(&archive, tar_of(&dots)).unwrap();
    let said = unpack_file(&archive, &into, limits).unwrap_err().to_string();
    assert!(said.contains("more than 10 entries"), "{said}");
}

/// An extension header's kind and content.
type Extension<'a> = (EntryType, &'a [u8]);

/// A tar with raw extension headers before one file of two bytes.
fn extended(extensions: &[Extension<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, content) in extensions {
        builder.append(&header(b"extension", *kind, b"", content.len() as u64, 0o644), *content).unwrap();
    }
    builder.append(&header(b"short", FILE, b"", 2, 0o644), &b"hi"[..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    const PAX: EntryType = EntryType::XHeader;
    let cases: [(&[Extension<'_>], &str); 8] = [
        (&[(PAX, b"9 size=3\n")], "two different sizes"),
        (&[(PAX, b"16 size=1048576\n")], "two different sizes"),
        (&[(PAX, b"11 size=-2\n")], "no number"),
        (&[(PAX, b"9 size=2\n9 size=2\n")], "described twice"),
        (&[(PAX, b"11 path=ab\n11 path=cd\n")], "described twice"),
        (&[(EntryType::GNULongName, b"ab\0"), (PAX, b"11 path=cd\n")], "described twice"),
        (&[(EntryType::GNULongLink, b"ab\0"), (PAX, b"15 linkpath=cd\n")], "described twice"),
        (&[(PAX, b"22 GNU.sparse.major=1\n")], "sparse"),
    ];
    for (extensions, wanted) in cases {
        let (_top, _into, result) = unpack_bytes(&extended(extensions));
        let said = result.expect_err(wanted).to_string();
        assert!(said.contains(wanted), "{said:?} should say {wanted:?}");
    }
    let (_top, into, result) = unpack_bytes(&extended(&[(PAX, b"9 size=2\n11 path=ab\n")]));
    assert_eq!((result.unwrap().entries, stdfs::read(into.join("ab")).unwrap()), (1, b"hi".to_vec()));
    let mut sparse = header(b"hole", EntryType::GNUSparse, b"", 0, 0o644);
    sparse.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder.append(&sparse, &b""[..]).unwrap();
    let (_top, _into, result) = unpack_bytes(&builder.into_inner().unwrap());
    assert!(result.unwrap_err().to_string().contains("a sparse file"));
}

#[test]
fn a_size_that_lies_ends_where_the_archive_ends() {
    let mut bytes = Vec::from(header(b"long", FILE, b"", 1 << 40, 0o644).as_bytes().as_slice());
    bytes.extend_from_slice(&[b'x'; 1024]);
    let (_top, into, result) = unpack_bytes(&bytes);
    assert!(matches!(result, Err(ArchiveError::Damaged(_))), "{result:?}");
    assert!(!into.exists());
}

#[test]
fn a_directory_with_something_in_it_is_not_unpacked_over() {
    let (_top, archive, into) = scratch();
    stdfs::write(&archive, good()).unwrap();
    stdfs::create_dir(&into).unwrap();
    stdfs::write(into.join("mine"), "kept").unwrap();
    let result = unpack(File::open(&archive).unwrap(), &into, ALL);
    assert!(matches!(result, Err(ArchiveError::Write { .. })));
    assert_eq!(stdfs::read_to_string(into.join("mine")).unwrap(), "kept");
}

#[test]
fn sealing_makes_all_of_it_roots_and_follows_nothing() {
    let (top, archive, into) = scratch();
    stdfs::write(&archive, good()).unwrap();
    unpack_file(&archive, &into, ALL).unwrap();
    let outside = top.path().join("outside");
    stdfs::write(&outside, "x").unwrap();
    std::os::unix::fs::chown(&outside, Some(33), Some(33)).unwrap();
    symlink(&outside, into.join("out")).unwrap();
    stdfs::write(into.join("private"), "x").unwrap();
    stdfs::set_permissions(into.join("private"), std::os::unix::fs::PermissionsExt::from_mode(0o4760)).unwrap();
    stdfs::write(into.join("hidden"), "x").unwrap();
    stdfs::set_permissions(into.join("hidden"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    seal(&into, 0, false).unwrap();
    let look = |path: PathBuf| {
        let m = path.symlink_metadata().unwrap();
        (m.uid(), m.gid(), m.mode() & 0o7777)
    };
    for (name, mode) in [
        ("", 0o755),
        ("bin", 0o755),
        ("bin/run", 0o755),
        ("lib/deep/data.txt", 0o644),
        ("private", 0o755),
        ("hidden", 0o644),
    ] {
        assert_eq!(look(into.join(name)), (0, 0, mode), "{name}");
    }
    assert_eq!(look(into.join("out")).0, 0);
    assert_eq!(look(outside).0, 33, "sealing went through a link");
    rustix::fs::mkfifoat(rustix::fs::CWD, into.join("pipe"), Mode::from_raw_mode(0o666)).unwrap();
    assert!(seal(&into, 0, false).unwrap_err().to_string().contains("pipe"));
    symlink(&into, top.path().join("link")).unwrap();
    assert!(seal(&top.path().join("link"), 0, false).is_err(), "sealing goes through a link at the top");
}

#[test]
fn what_a_build_left_behind_cannot_change_a_sealed_release() {
    let top = tempfile::tempdir().unwrap();
    let (into, outside) = (top.path().join("tree"), top.path().join("outside"));
    stdfs::create_dir_all(into.join("bin")).unwrap();
    let program = into.join("bin/run");
    stdfs::write(&program, "good").unwrap();
    stdfs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 5);
    let mut open = File::options().write(true).open(&program).unwrap();
    open.set_modified(long_ago).unwrap();
    stdfs::hard_link(&program, &outside).unwrap();
    seal(&into, 0, true).unwrap();
    io::Write::write_all(&mut open, b"evil").unwrap();
    stdfs::write(&outside, "evil").unwrap();
    let sealed = stdfs::metadata(&program).unwrap();
    assert_eq!(stdfs::read(&program).unwrap(), b"good");
    assert_eq!((sealed.mode() & 0o7777, sealed.uid(), sealed.nlink()), (0o755, 0, 1));
    assert_eq!(sealed.modified().unwrap(), long_ago);
    assert_eq!(stdfs::read_dir(into.join("bin")).unwrap().count(), 1);
}

#[test]
fn what_belongs_to_somebody_else_is_refused_and_nobody_gets_in_meanwhile() {
    let top = tempfile::tempdir().unwrap();
    let into = top.path().join("tree");
    let give = |name: &str, uid: u32| std::os::unix::fs::lchown(into.join(name), Some(uid), Some(uid)).unwrap();
    let make = |name: &str| match name {
        "file" => stdfs::write(into.join(name), "x"),
        "directory" => stdfs::create_dir(into.join(name)),
        _ => symlink("/etc/passwd", into.join(name)),
    };
    for name in ["file", "directory", "link"] {
        for run in ["hand_over", "seal", "seal fresh"] {
            stdfs::create_dir_all(&into).unwrap();
            give("", 33);
            make(name).unwrap();
            stdfs::set_permissions(&into, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
            let look = || {
                let (m, above) = (into.join(name).symlink_metadata().unwrap(), into.metadata().unwrap());
                (m.uid(), m.mode(), above.uid(), above.mode() & 0o7777)
            };
            let before = look();
            let result = match run {
                "hand_over" => hand_over(&into, 33, (34, 34)),
                _ => seal(&into, 33, run == "seal fresh"),
            };
            let error = result.expect_err("it is taken over").to_string();
            assert!(error.contains("belongs to user 0, not to user 33"), "{run} {name}: {error}");
            assert_eq!(look(), (before.0, before.1, 0, 0o700), "{run} {name}");
            stdfs::remove_dir_all(&into).unwrap();
        }
    }
}
