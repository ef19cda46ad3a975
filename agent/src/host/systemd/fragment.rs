//! The file of a unit, wherever systemd has it from. Part of `systemd`.

use std::{
    fs, io,
    io::{Error, ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
};

use drover_proto::limits::MAX_FILE_BYTES;

/// The content of the file that systemd names; of links to it the end. No larger than a manifest's files.
pub fn read_fragment(path: &str) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidData, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(Error::new(ErrorKind::FileTooLarge, "it is too large"));
    }
    Ok(bytes)
}
