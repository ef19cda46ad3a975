//! The unified diff of a file, secrets masked. Beside `plan`.

use drover_proto::limits::MAX_DIFF_BYTES;

use crate::{
    host::files::FileState,
    observe::Seen,
    observe::SeenFile,
    render::{FileKind, Rendered, RenderedFile},
};

/// A file that every local user may read holds no secrets of others.
const WORLD_READABLE: u32 = 0o004;

/// From what is there to what will be.
pub(super) fn of(file: &RenderedFile, there: Option<&SeenFile>, previous: Option<&Rendered>) -> String {
    let Some(new) = &file.masked else { return "(not text: no diff)".to_owned() };
    match old_text(file, there, previous) {
        Err(why) => format!("(contents not shown: {why})"),
        Ok(old) if old == *new => "(only the value of a secret differs)".to_owned(),
        Ok(old) => unified(&old, new, file.path.as_str()),
    }
}

/// What is there, with nothing in it that may be secret; or why it is not shown. Text that is not exactly what the
/// committed release wrote may hold anything, e.g. the value of a secret before the last.
fn old_text(
    file: &RenderedFile,
    there: Option<&SeenFile>,
    previous: Option<&Rendered>,
) -> Result<String, &'static str> {
    let (there, digest, mode) = match there.map(|there| (there, &there.seen)) {
        None | Some((_, Seen::Is(FileState::Missing))) => return Ok(String::new()),
        Some((there, Seen::Is(FileState::File { digest, mode, .. }))) => (there, digest, mode),
        Some((_, Seen::Is(_) | Seen::Unsafe(_))) => return Err("what is there is no regular file"),
    };
    let before = previous.and_then(|previous| previous.file(&file.path));
    match before {
        Some(before) if Some(before.digest) == *digest => {
            return before.masked.clone().ok_or("what is there is not text");
        }
        Some(before) if before.secret => return Err("what is there may hold secrets"),
        _ if file.secret || file.kind == FileKind::Env => return Err("what is there may hold secrets"),
        _ if mode & WORLD_READABLE == 0 => return Err("what is there is not readable by everybody"),
        Some(_) | None => {}
    }
    let text = there.text.as_ref().map(|text| text.expose().clone());
    text.ok_or("what is there is not text, or large")
}

fn unified(old: &str, new: &str, path: &str) -> String {
    let diff = similar::TextDiff::from_lines(old, new);
    let from = if old.is_empty() { "/dev/null" } else { path };
    let text = diff.unified_diff().context_radius(3).header(from, path).to_string();
    if text.len() <= MAX_DIFF_BYTES {
        return text;
    }
    let mut end = MAX_DIFF_BYTES - 100;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let whole_lines = text[..end].rfind('\n').map_or(end, |at| at + 1);
    format!("{}(… {} more bytes of diff)\n", &text[..whole_lines], text.len() - whole_lines)
}
