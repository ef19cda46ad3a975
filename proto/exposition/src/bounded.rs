//! Files of others, read whole if they are no larger than a manifest may have them. For `web`, and for the agent.

use std::{
    fs, io,
    io::{Error, ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use drover_proto::limits::MAX_FILE_BYTES;

/// Its content; of a link where it leads. A pipe or a device, which would never end, is refused.
pub fn read_bounded(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
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
