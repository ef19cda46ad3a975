//! What a program says, kept within bounds: the last lines for people, the first MiB of standard output for programs, all
//! of it in a file. Used by `process` only.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use drover_proto::limits::{MAX_EVIDENCE_LINE_BYTES, MAX_EVIDENCE_LINES};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};

use super::{Ended, Outcome, ProcessError};

const MAX_STDOUT_BYTES: usize = 1 << 20;
const MAX_FILE_BYTES: usize = 64 << 20;

/// Collects a program's output.
pub(super) struct Output {
    tail: VecDeque<String>,
    stdout: Vec<u8>,
    file: Option<File>,
    file_left: usize,
}

impl Output {
    /// Nothing yet. The file is added to, so that the steps of one build can share it.
    pub(super) fn new(file: Option<&Path>) -> Result<Self, ProcessError> {
        let open = |path: &Path| {
            let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o600).custom_flags(flags);
            options.open(path).map_err(|source| ProcessError::OutputFile { path: path.to_owned(), source })
        };
        let file = file.map(open).transpose()?;
        Ok(Self { tail: VecDeque::new(), stdout: Vec::new(), file, file_left: MAX_FILE_BYTES })
    }

    /// Reads both to their ends. May be dropped at any point; what was read is kept.
    pub(super) async fn read(&mut self, out: Option<impl AsyncRead + Unpin>, err: Option<impl AsyncRead + Unpin>) {
        let (mut out, mut err) = (out, err);
        let (mut out_line, mut err_line) = (Line::default(), Line::default());
        let (mut out_buffer, mut err_buffer) = (vec![0; 8 << 10], vec![0; 8 << 10]);
        while out.is_some() || err.is_some() {
            tokio::select! {
                n = next(&mut out, &mut out_buffer), if out.is_some() => {
                    let bytes = &out_buffer[..n];
                    let room = MAX_STDOUT_BYTES - self.stdout.len();
                    self.stdout.extend_from_slice(&bytes[..n.min(room)]);
                    self.take(bytes, &mut out_line);
                }
                n = next(&mut err, &mut err_buffer), if err.is_some() => {
                    self.take(&err_buffer[..n], &mut err_line);
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8], line: &mut Line) {
        if let Some(file) = &mut self.file {
            let n = bytes.len().min(self.file_left);
            self.file_left -= n;
            if let Err(error) = file.write_all(&bytes[..n]) {
                tracing::warn!(%error, "the rest of a program's output is not kept");
                self.file = None;
            }
        }
        // The end of a stream ends its last line too.
        let end: &[u8] = if bytes.is_empty() && line.begun { b"\n" } else { b"" };
        for byte in bytes.iter().chain(end) {
            if let Some(text) = line.push(*byte) {
                if self.tail.len() == MAX_EVIDENCE_LINES {
                    self.tail.pop_front();
                }
                self.tail.push_back(text);
            }
        }
    }

    pub(super) fn finish(self, ended: Ended) -> Outcome {
        Outcome { ended, tail: self.tail.into(), stdout: self.stdout }
    }
}

/// The next bytes of a stream; at its end, or when it breaks, 0 and the stream is gone.
async fn next(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    let Some(open) = stream else { return 0 };
    let n = open.read(buffer).await.unwrap_or(0);
    if n == 0 {
        *stream = None;
    }
    n
}

/// Reads the next line into `line`, without its end; `false`: there is none. One that is too long comes empty.
pub(super) async fn next_line(from: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> bool {
    line.clear();
    let mut whole = true;
    loop {
        let part = from.take(MAX_STDOUT_BYTES as u64).read_until(b'\n', line).await;
        let Ok(n) = part else { return false };
        if n == 0 {
            return !line.is_empty() || !whole;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if !whole {
                line.clear();
            }
            return true;
        }
        if n == MAX_STDOUT_BYTES {
            whole = false;
            line.clear();
        }
    }
}

/// A line as it comes in.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    begun: bool,
    returned: bool,
}

impl Line {
    /// Takes a byte; a line that is whole comes back. A carriage return alone starts the line anew, as on a terminal.
    fn push(&mut self, byte: u8) -> Option<String> {
        match byte {
            b'\n' => {
                self.begun = false;
                self.returned = false;
                return Some(printable(&std::mem::take(&mut self.bytes)));
            }
            b'\r' => self.returned = true,
            _ => {
                if self.returned {
                    self.bytes.clear();
                    self.returned = false;
                }
                self.begun = true;
                if self.bytes.len() < MAX_EVIDENCE_LINE_BYTES {
                    self.bytes.push(byte);
                }
            }
        }
        None
    }
}

/// Bytes as a line that is safe to show: UTF-8, no control characters but tabs as blanks, no colour codes.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\t' => shown.push(' '),
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            c if c.is_control() => {}
            c => shown.push(c),
        }
    }
    let mut end = shown.len().min(MAX_EVIDENCE_LINE_BYTES);
    while !shown.is_char_boundary(end) {
        end -= 1;
    }
    shown.truncate(end);
    shown
}
