//! How much room a file system has. `observe` asks for the places where a release would be written, `exec` right before it
//! writes.

use std::{io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::fs;

/// The file system at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Places with the same number share it.
    pub device: u64,
    /// Bytes that programs can still write.
    pub free_bytes: u64,
    /// Files that can still be made; `None` = as many as there is room for.
    pub free_inodes: Option<u64>,
}

/// At `path`, or at the nearest directory above it that is there.
pub fn at(path: &Path) -> io::Result<Room> {
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let stat = fs::statvfs(there)?;
    Ok(Room {
        device: there.metadata()?.dev(),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        free_inodes: (stat.f_files > 0).then_some(stat.f_favail),
    })
}

#[cfg(test)]
mod tests {
    //! On this very machine.
    use super::*;

    #[test]
    fn a_place_that_is_not_there_yet_has_the_room_above_it() {
        let directory = tempfile::tempdir().unwrap();
        let (there, below) = (at(directory.path()).unwrap(), at(&directory.path().join("a/b")).unwrap());
        assert_eq!(there.device, below.device);
        assert!(there.free_bytes > 0 && there.free_inodes != Some(0));
    }
}
