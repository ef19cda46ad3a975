//! The unified diff of a file, secrets masked. Beside `plan`.

use drover_proto::limits::MAX_DIFF_BYTES;

use crate::{
    host::files::FileState,
    observe::Seen,
    observe::SeenFile,
    render::{FileKind, Rendered, RenderedFile},
};

/// From what is there to what will be.
pub(super) fn of(file: &RenderedFile, there: Option<&SeenFile>, previous: Option<&Rendered>) -> String {
    let Some(new) = &file.masked else { return "(not text: no diff)".to_owned() };
    let old = match there.map(|there| &there.seen) {
        None | Some(Seen::Is(FileState::Missing)) => Some(String::new()),
        Some(Seen::Is(FileState::File { digest, .. })) => {
            let before =
                previous.and_then(|previous| previous.file(&file.path)).filter(|before| before.digest == *digest);
            match before {
                Some(before) => before.masked.clone(),
                // Nobody knows what in it is secret.
                None if file.secret || file.kind == FileKind::Env => None,
                None => there.and_then(|there| there.text.as_ref()).map(|text| text.expose().clone()),
            }
        }
        Some(Seen::Is(FileState::Directory { .. } | FileState::Symlink | FileState::Other) | Seen::Unsafe(_)) => None,
    };
    match old {
        None => "(what is there may hold secrets or is not text: no diff)".to_owned(),
        Some(old) if old == *new => "(only the value of a secret differs)".to_owned(),
        Some(old) => unified(&old, new, file.path.as_str()),
    }
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
