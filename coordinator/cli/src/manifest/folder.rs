//! The manifest's own folder: what a path in it names, and why a path is refused.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::diagnostic::did_you_mean;

/// Where the manifest lies.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    shown: PathBuf,
}

/// Why a path is refused: what is wrong, and what to do.
pub(super) type Refusal = (String, String);

impl Folder {
    /// The folder of the file `manifest`.
    pub fn of(manifest: &Path) -> io::Result<Self> {
        let shown = manifest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { root: fs::canonicalize(shown)?, shown: shown.to_owned() })
    }

    /// The place on disk of a path in the manifest, which is there and lies within the folder.
    pub fn find(&self, text: &str) -> Result<PathBuf, Refusal> {
        const INSIDE: &str = "name it by a path relative to the manifest, without .., inside its folder";
        let path = Path::new(text);
        if text.is_empty() || text.contains('\0') {
            return Err(("no path".into(), INSIDE.into()));
        }
        if path.is_absolute() || text.starts_with('~') {
            return Err((format!("{text} is not beside the manifest"), INSIDE.into()));
        }
        let mut depth = 0_i32;
        for part in path.components() {
            match part {
                Component::ParentDir => depth -= 1,
                Component::Normal(_) => depth += 1,
                _ => {}
            }
            if depth < 0 {
                return Err((format!("{text} leads out of the manifest's folder"), INSIDE.into()));
            }
        }
        let full = self.root.join(path);
        let real = fs::canonicalize(&full).map_err(|error| self.absent(text, &full, &error))?;
        if !real.starts_with(&self.root) {
            return Err((format!("{text} leads out of the manifest's folder by a symbolic link"), INSIDE.into()));
        }
        Ok(real)
    }

    /// How the user would name it.
    pub fn shown(&self, text: &str) -> String {
        self.shown.join(text).display().to_string().trim_start_matches("./").to_owned()
    }

    fn absent(&self, text: &str, full: &Path, error: &io::Error) -> Refusal {
        if error.kind() != io::ErrorKind::NotFound {
            return (format!("{text} cannot be read: {error}"), String::new());
        }
        let name = full.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let beside: Vec<String> = full
            .parent()
            .and_then(|parent| fs::read_dir(parent).ok())
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .take(1000)
            .collect();
        let hint = did_you_mean(name, beside.iter().map(String::as_str))
            .map_or_else(|| format!("looked for {}", self.shown(text)), |word| format!("did you mean {word}?"));
        (format!("there is no {text}"), hint)
    }
}
