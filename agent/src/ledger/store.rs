//! The ledgers on disk: one JSON file per app, 0600, replaced atomically. Beside `ledger`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use drover_proto::name::AppName;

use super::AppLedger;
use crate::host::files;

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

/// The directory with all ledgers.
#[derive(Clone, Debug)]
pub struct Ledgers {
    directory: PathBuf,
}

impl Ledgers {
    /// The ledgers below the agent's state directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("ledger") }
    }

    /// All ledgers. A damaged one is put aside and said in the log: its app then owns nothing here, and what it wrote is
    /// refused until `adopt: true` or a person decides.
    pub fn load(&self) -> Result<BTreeMap<AppName, AppLedger>, LedgerError> {
        let failed =
            |source: io::Error| LedgerError { action: "read", path: self.directory.clone(), source: source.into() };
        let mut ledgers = BTreeMap::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs::read(&path).map_err(failed)?;
            match serde_json::from_slice::<AppLedger>(&bytes) {
                Ok(ledger) => {
                    ledgers.insert(ledger.app.clone(), ledger);
                }
                Err(error) => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let aside = path.with_extension(format!("json.damaged-{}", now.as_millis()));
                    fs::rename(&path, &aside).map_err(failed)?;
                    tracing::error!(%error, kept_as = %aside.display(), "a ledger is damaged; what its app wrote is nobody's now");
                }
            }
        }
        Ok(ledgers)
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
        })
    }

    /// Forgets an app.
    pub fn remove(&self, app: &AppName) -> Result<(), LedgerError> {
        let path = self.path(app);
        files::remove_private(&path).map_err(|error| LedgerError { action: "removed", path, source: error.into() })
    }

    fn path(&self, app: &AppName) -> PathBuf {
        self.directory.join(format!("{app}.json"))
    }
}
