//! The unified diff of a file, secrets masked. Beside `plan`.

use drover_proto::limits::MAX_DIFF_BYTES;
use imara_diff::{Algorithm, Diff, Hunk, InternedInput, Token};

use crate::{
    host::files::FileState,
    observe::Seen,
    observe::SeenFile,
    render::{FileKind, Rendered, RenderedFile},
};

/// Unchanged lines shown around a change.
const CONTEXT_LINES: u32 = 3;
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
    let input = InternedInput::new(old, new);
    // Histogram has an answer in time for any two files, also for such as were made to be slow.
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let from = if old.is_empty() { "/dev/null" } else { path };
    let mut text = format!("--- {from}\n+++ {path}\n");
    let changes: Vec<Hunk> = diff.hunks().collect();
    for near in changes.chunk_by(|one, next| next.before.start - one.before.end <= 2 * CONTEXT_LINES) {
        if text.len() > MAX_DIFF_BYTES {
            break;
        }
        hunk(&mut text, near, &input);
    }
    if text.len() > MAX_DIFF_BYTES {
        let end = text.floor_char_boundary(MAX_DIFF_BYTES - 100);
        text.truncate(text[..end].rfind('\n').map_or(end, |at| at + 1));
        text.push_str("(… the diff goes on)\n");
    }
    text
}

/// Changes with so few lines between them that their context meets, as one hunk.
fn hunk(text: &mut String, changes: &[Hunk], input: &InternedInput<&str>) {
    let (Some(first), Some(last)) = (changes.first(), changes.last()) else { return };
    let lead = first.before.start.min(CONTEXT_LINES);
    let tail = (input.before.len() as u32).saturating_sub(last.before.end).min(CONTEXT_LINES);
    let range = |start: u32, end: u32| {
        let (start, end) = (start - lead, end + tail);
        // A range without lines is named by the line before it.
        format!("{},{}", if end > start { start + 1 } else { start }, end - start)
    };
    let (before, after) = (range(first.before.start, last.before.end), range(first.after.start, last.after.end));
    text.push_str(&format!("@@ -{before} +{after} @@\n"));
    let mut put = |sign: char, tokens: &[Token]| {
        for token in tokens {
            let line = input.interner[*token];
            let end = if line.ends_with('\n') { "" } else { "\n" };
            text.extend([sign.encode_utf8(&mut [0; 4]), line, end]);
        }
    };
    let mut at = first.before.start - lead;
    for change in changes {
        put(' ', &input.before[at as usize..change.before.start as usize]);
        put('-', &input.before[change.before.start as usize..change.before.end as usize]);
        put('+', &input.after[change.after.start as usize..change.after.end as usize]);
        at = change.before.end;
    }
    put(' ', &input.before[at as usize..(at + tail) as usize]);
}

#[cfg(test)]
mod tests {
    //! What people read, for files however large.
    use super::*;

    #[test]
    fn a_diff_has_its_header_its_context_and_an_end() {
        let (old, new) = ("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nd\nX\nf\n");
        let expected = "--- /etc/x\n+++ /etc/x\n@@ -2,5 +2,5 @@\n b\n c\n d\n-e\n+X\n f\n";
        assert_eq!(unified(old, new, "/etc/x"), expected);
        assert_eq!(unified("", "a\n", "/etc/x"), "--- /dev/null\n+++ /etc/x\n@@ -0,0 +1,1 @@\n+a\n");
        let far: Vec<String> = (1..=20).map(|n| n.to_string()).collect();
        let other: Vec<String> = far.iter().map(|n| n.replace("20", "x").replace("19", "y")).skip(1).collect();
        let hunks = "@@ -1,4 +1,3 @@\n-1\n 2\n 3\n 4\n@@ -16,5 +15,5 @@\n 16\n 17\n 18\n-19\n-20\n+y\n+x\n";
        assert!(unified(&far.join("\n"), &other.join("\n"), "/x").ends_with(hunks), "as diff -u has it");
        let lines = |seed: usize| (0..40_000).map(|n| format!("{}\n", n * seed % 65_537)).collect::<String>();
        let large = unified(&lines(7), &lines(11), "/etc/x");
        assert!(large.len() <= MAX_DIFF_BYTES && large.ends_with("(… the diff goes on)\n"));
    }
}
