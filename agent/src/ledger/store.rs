//! The ledgers on disk: one JSON file per app, 0600, replaced atomically. Beside `ledger`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use drover_proto::name::AppName;

use super::AppLedger;
use crate::host::{docker::Adoptions, files};

/// A ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the ledger {path} cannot be {action}")]
pub struct LedgerError {
    /// `read`, `written` or `removed`.
    pub action: &'static str,
    /// Which file or directory.
    pub path: PathBuf,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What was in the directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// By app.
    pub ledgers: BTreeMap<AppName, AppLedger>,
    /// Those that could not be taken as they were.
    pub set_aside: Vec<SetAside>,
}

/// A ledger that was put aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAside {
    /// Whose, by the name of the file; `None` = that is no app's name.
    pub app: Option<AppName>,
    /// Where it lies now.
    pub aside: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

fn app_of(path: &Path) -> Option<AppName> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// A ledger that says of another app what it owns here would have this one removed for it.
fn read(path: &Path, bytes: &[u8]) -> Result<AppLedger, String> {
    let ledger: AppLedger = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let wanted = ledger.activation.as_ref().and_then(|activation| activation.desired.as_ref());
    let all = ledger.current.iter().chain(wanted).flat_map(|desired| [&desired.spec.app, &desired.release.app]);
    let other = all.chain([&ledger.app]).find(|app| app_of(path).as_ref() != Some(app)).cloned();
    other.map_or(Ok(ledger), |other| Err(format!("it is of app {other}")))
}

/// The directory with all ledgers.
#[derive(Clone, Debug)]
pub struct Ledgers {
    directory: PathBuf,
    adoptions: Adoptions,
}

impl Ledgers {
    /// The ledgers below the agent's state directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("ledger"), adoptions: Adoptions::default() }
    }

    /// The same; whoever has `adoptions` sees the containers that apps took over, as it is on the disk.
    #[must_use]
    pub fn telling(self, adoptions: Adoptions) -> Self {
        Self { adoptions, ..self }
    }

    /// All ledgers, and those that were just now put aside since they are damaged or another app's. What such an app
    /// wrote is nobody's until `reconcile/recover` finds it exactly as the wanted release says, or a person decides.
    pub fn load(&self) -> Result<Loaded, LedgerError> {
        let failed =
            |source: io::Error| LedgerError { action: "read", path: self.directory.clone(), source: source.into() };
        let mut loaded = Loaded::default();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs::read(&path).map_err(failed)?;
            match read(&path, &bytes) {
                Ok(ledger) => {
                    self.adoptions.tell(&ledger);
                    loaded.ledgers.insert(ledger.app.clone(), ledger);
                }
                Err(why) => {
                    let aside = files::set_aside(&path).map_err(failed)?;
                    loaded.set_aside.push(SetAside { app: app_of(&path), aside, why });
                }
            }
        }
        Ok(loaded)
    }

    /// What a damaged ledger said is known again: it is kept, and holds nothing up any more.
    pub fn recovered(&self, aside: &Path) -> io::Result<()> {
        let name = aside.file_name().unwrap_or_default().to_string_lossy();
        fs::rename(aside, aside.with_file_name(name.replacen(".json.damaged-", ".json.recovered-", 1)))
    }

    /// The damaged ledgers that were put aside and that nobody has removed yet, by app.
    #[must_use]
    pub fn damaged(&self) -> BTreeMap<AppName, PathBuf> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%error, directory = %self.directory.display(), "cannot be listed");
                return BTreeMap::new();
            }
        };
        let of = |path: PathBuf| {
            let (app, _) = path.file_name()?.to_str()?.split_once(".json.damaged-")?;
            Some((app.parse().ok()?, path))
        };
        entries.filter_map(|entry| of(entry.ok()?.path())).collect()
    }

    /// Keeps one ledger; it is on disk when this returns.
    pub fn save(&self, ledger: &AppLedger) -> Result<(), LedgerError> {
        let path = self.path(&ledger.app);
        let bytes = serde_json::to_vec(ledger).map_err(|source| LedgerError {
            action: "written",
            path: path.clone(),
            source: source.into(),
        })?;
        files::write_private(&path, &bytes).map_err(|source| LedgerError {
            action: "written",
            path,
            source: source.into(),
        })?;
        self.adoptions.tell(ledger);
        Ok(())
    }

    /// Forgets an app.
    pub fn remove(&self, app: &AppName) -> Result<(), LedgerError> {
        let path = self.path(app);
        files::remove_private(&path).map_err(|error| LedgerError { action: "removed", path, source: error.into() })?;
        self.adoptions.forget(app);
        Ok(())
    }

    fn path(&self, app: &AppName) -> PathBuf {
        self.directory.join(format!("{app}.json"))
    }
}
