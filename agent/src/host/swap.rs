//! The swap file: whether there is swap, whether a file could be it, and making one. `observe` asks, `exec` makes.

use std::{fs, io, path::Path, time::Duration};

use rustix::fs as sys;

use super::process::{self, Command, ProcessError};

/// Where the file is.
pub const PATH: &str = "/swapfile";
/// The unit that puts it to use; systemd wants it named like the path.
pub const UNIT: &str = "swapfile.swap";
/// Under this name while it is being made.
const UNDER_WAY: &str = "/.swapfile.drover";
/// What a swap file loses to its own header.
const HEADER_BYTES: u64 = 64 << 10;
/// Where mkswap writes that it has been here.
const SIGNATURE: (u64, &[u8]) = (4096 - 10, b"SWAPSPACE2");
/// File systems on which the kernel takes no swap file, or not one made this way.
const UNFIT: [(u32, &str); 6] = [
    (0x9123_683E, "btrfs"),
    (0x794C_7630, "overlayfs"),
    (0x0102_1994, "tmpfs"),
    (0x2FC1_2FC1, "zfs"),
    (0x6573_5546, "a FUSE file system"),
    (0x0000_6969, "NFS"),
];

/// What a host has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Swap {
    /// The largest swap area in use.
    pub largest_bytes: u64,
    /// What is at `PATH`.
    pub file: SwapFile,
    /// Why no swap file can be there.
    pub unfit: Option<&'static str>,
}

/// What is where the swap file goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SwapFile {
    /// Nothing.
    Missing,
    /// A swap file of this many bytes.
    Ready(u64),
    /// Something else.
    Other,
}

impl Swap {
    /// Whether as much is in use already, wherever it is.
    #[must_use]
    pub fn has(&self, bytes: u64) -> bool {
        self.largest_bytes.saturating_add(HEADER_BYTES) >= bytes
    }
}

/// Looks.
pub fn look() -> io::Result<Swap> {
    let largest_bytes = largest(&fs::read_to_string("/proc/swaps")?);
    let magic = sys::statfs("/")?.f_type as u32;
    let unfit = UNFIT.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name);
    Ok(Swap { largest_bytes, file: file(Path::new(PATH))?, unfit })
}

/// In `/proc/swaps` sizes are in KiB.
fn largest(swaps: &str) -> u64 {
    let sizes = swaps.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok());
    sizes.max().unwrap_or(0).saturating_mul(1024)
}

fn file(path: &Path) -> io::Result<SwapFile> {
    use std::os::unix::fs::FileExt as _;
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SwapFile::Missing),
        other => other?,
    };
    let mut found = [0; SIGNATURE.1.len()];
    if !metadata.is_file() || fs::File::open(path)?.read_exact_at(&mut found, SIGNATURE.0).is_err() {
        return Ok(SwapFile::Other);
    }
    Ok(if found == SIGNATURE.1 { SwapFile::Ready(metadata.len()) } else { SwapFile::Other })
}

/// Why there is no swap file.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// It could not be written.
    #[error("the swap file /swapfile cannot be made: {0}")]
    Write(#[from] io::Error),
    /// mkswap could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// mkswap said no.
    #[error("mkswap: {0}")]
    Refused(String),
}

/// Makes the file, all of its blocks its own, mode 0600. It gets its name when it is complete.
pub async fn make(bytes: u64) -> Result<(), SwapError> {
    let made = async {
        // Blocks are given out, not written, but on a slow disk that takes a while, too.
        let allocated = tokio::task::spawn_blocking(move || allocate(Path::new(UNDER_WAY), bytes)).await;
        allocated.map_err(io::Error::other)??;
        let command =
            Command::new(process::MKSWAP, vec!["--".to_owned(), UNDER_WAY.to_owned()], Duration::from_secs(120));
        let outcome = process::run(command).await?;
        if !outcome.ok() {
            return Err(SwapError::Refused(outcome.last_line()));
        }
        fs::File::open(UNDER_WAY)?.sync_all()?;
        fs::rename(UNDER_WAY, PATH)?;
        fs::File::open("/")?.sync_all()?;
        Ok(())
    };
    let made: Result<(), SwapError> = made.await;
    if made.is_err()
        && let Err(error) = fs::remove_file(UNDER_WAY)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a half-made swap file stays behind");
    }
    made
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // With holes in it the kernel would refuse it.
    sys::fallocate(&file, sys::FallocateFlags::empty(), 0, bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    //! What there is. Taking a file for swap is a real machine's.
    use super::*;

    #[test]
    fn the_largest_area_counts() {
        let swaps =
            "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2  partition  1048572  0  -2\n/swapfile file 524284 0 -3\n";
        let swap = Swap { largest_bytes: largest(swaps), file: SwapFile::Missing, unfit: None };
        assert!(swap.has(1 << 30), "the header is not counted");
        assert!(!swap.has((1 << 30) + (1 << 20)));
        assert_eq!(largest("Filename\tType\tSize\n"), 0);
    }

    #[test]
    fn a_file_is_allocated_whole_and_known_by_its_signature() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("swap");
        assert_eq!(file(&path).unwrap(), SwapFile::Missing);
        fs::write(&path, "a note").unwrap();
        assert_eq!(file(&path).unwrap(), SwapFile::Other);
        allocate(&path, 1 << 20).unwrap();
        let made = path.metadata().unwrap();
        assert_eq!(
            (made.len(), made.blocks() * 512 >= 1 << 20, made.permissions().mode() & 0o777),
            (1 << 20, true, 0o600)
        );
        assert_eq!(file(&path).unwrap(), SwapFile::Other);
        use std::os::unix::fs::FileExt as _;
        fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(SIGNATURE.1, SIGNATURE.0).unwrap();
        assert_eq!(file(&path).unwrap(), SwapFile::Ready(1 << 20));
    }
}
