//! Reads what is on the disk: directories of releases with their sizes, and what the engine keeps. Changes nothing; `disk` decides. Beside
//! `observe`.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use drover_proto::name::AppName;

use crate::{
    disk::{Engine as Answer, Held, HeldTree},
    host::docker::{DockerError, Engine, HeldCache},
    render::Layout,
    stock::Stocked,
};

/// The sizes of sealed trees, which do not change: measured once.
pub type Sizes = BTreeMap<PathBuf, u64>;

/// Everything. Sizes that were measured before are taken from `sizes`, which then has those of all that is there.
pub async fn look(layout: &Layout, engine: &Engine, stocked: &Stocked, sizes: Sizes) -> (Held, Sizes) {
    let place = layout.clone();
    let measured = tokio::task::spawn_blocking(move || trees(&place, &sizes)).await;
    let (trees, sizes) = measured.unwrap_or_default();
    let mut held = Held { trees, ..Held::default() };
    let own: BTreeSet<String> = stocked.images.keys().cloned().collect();
    match engine.held(&own).await {
        Ok((images, containers)) => {
            (held.images, held.containers, held.engine) = (images, containers, Answer::Answered);
            held.cache = cache(engine, stocked).await;
        }
        Err(DockerError::Absent) => {}
        Err(error) => held.engine = Answer::Silent(error.to_string()),
    }
    (held, sizes)
}

/// An engine whose builds drover never had anything to do with is not asked: it would measure for nobody.
async fn cache(engine: &Engine, stocked: &Stocked) -> Option<Vec<HeldCache>> {
    if stocked.cache.is_empty() && stocked.builds.is_empty() {
        return None;
    }
    match engine.build_cache().await {
        Ok(cache) => cache,
        Err(error) => {
            tracing::warn!(%error, "what the engine keeps of builds is not known");
            None
        }
    }
}

fn trees(layout: &Layout, known: &Sizes) -> (Vec<HeldTree>, Sizes) {
    let (mut trees, mut sizes) = (Vec::new(), Sizes::new());
    for (name, path) in listed(&layout.releases_dir) {
        let app: Option<AppName> = name.parse().ok();
        let Some(app) = app.filter(|_| is_directory(&path)) else {
            // What git is fetched with goes by itself.
            if !name.starts_with('.') {
                let (size_bytes, since_unix_ms) = (size_of(&path), changed(&path));
                trees.push(HeldTree { app: None, key: name, size_bytes, since_unix_ms });
            }
            continue;
        };
        for (key, path) in listed(&path) {
            let marker = layout.seal_marker(&app, &key);
            let sealed = marker.exists();
            let mut tree = HeldTree { app: Some(app.clone()), key, size_bytes: 0, since_unix_ms: None };
            tree.since_unix_ms = changed(if sealed { &marker } else { &path });
            tree.size_bytes = match known.get(&path).filter(|_| sealed) {
                Some(size) => *size,
                None => size_of(&path),
            };
            if sealed {
                sizes.insert(path, tree.size_bytes);
            }
            trees.push(tree);
        }
    }
    (trees, sizes)
}

fn listed(directory: &Path) -> Vec<(String, PathBuf)> {
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.file_name().into_string().ok()?, entry.path()))
            })
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, directory = %directory.display(), "cannot be listed");
            Vec::new()
        }
    }
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|data| data.is_dir())
}

fn changed(path: &Path) -> Option<i64> {
    let at = path.symlink_metadata().ok()?.modified().ok()?;
    i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// What it takes on the disk, without following links; a file with several names counts once.
fn size_of(path: &Path) -> u64 {
    let (mut bytes, mut seen, mut ahead) = (0_u64, HashSet::new(), vec![path.to_owned()]);
    while let Some(path) = ahead.pop() {
        let Ok(data) = path.symlink_metadata() else { continue };
        if data.is_dir() {
            ahead.extend(fs::read_dir(&path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())));
        } else if data.nlink() > 1 && !seen.insert((data.dev(), data.ino())) {
            continue;
        }
        bytes = bytes.saturating_add(data.blocks().saturating_mul(512));
    }
    bytes
}

#[cfg(test)]
mod tests {
    //! What is listed, and how large it is.
    use super::*;
    use crate::render::tests::layout_in;

    #[test]
    fn trees_are_listed_with_their_apps_and_sealed_ones_measured_once() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout_in(dir.path());
        let app: AppName = "mono".parse().unwrap();
        for key in ["aa", "bb"] {
            fs::create_dir_all(layout.releases_of(&app).join(key).join("bin")).unwrap();
            fs::write(layout.releases_of(&app).join(key).join("bin/program"), vec![1; 100_000]).unwrap();
        }
        fs::create_dir_all(layout.releases_dir.join(".git-x")).unwrap();
        fs::write(layout.releases_dir.join("Notes of somebody"), "x").unwrap();
        std::os::unix::fs::symlink("/usr", layout.releases_of(&app).join("cc")).unwrap();
        let marker = layout.seal_marker(&app, "aa");
        fs::create_dir_all(marker.parent().unwrap()).unwrap();
        fs::write(marker, "").unwrap();

        let (mut found, sizes) = trees(&layout, &Sizes::new());
        found.sort_by(|a, b| a.key.cmp(&b.key));
        let keys: Vec<&str> = found.iter().map(|tree| tree.key.as_str()).collect();
        assert_eq!(keys, ["Notes of somebody", "aa", "bb", "cc"]);
        assert!(found[0].app.is_none() && found[1].app.as_ref() == Some(&app) && found[1].since_unix_ms.is_some());
        assert!(found[1].size_bytes >= 100_000 && found[3].size_bytes < 10_000, "{found:?}");
        assert_eq!(sizes.len(), 1, "only what is sealed does not change");
        let before = sizes.keys().map(|path| (path.clone(), 7)).collect();
        assert!(trees(&layout, &before).0.iter().any(|tree| tree.key == "aa" && tree.size_bytes == 7));
    }

    #[test]
    fn a_file_with_two_names_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![1; 1 << 20]).unwrap();
        let once = size_of(dir.path());
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert_eq!(size_of(dir.path()), once);
    }
}
