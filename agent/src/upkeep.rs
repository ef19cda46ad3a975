//! What the agent remembers of looking after an app, durable: how often it put each part right and started each unit
//! again, which start of a unit was seen with everything right, and which watched files each part has read. All but the
//! last begins anew with every activation. `reconcile` uses it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use drover_proto::name::{AppName, ReleaseId, RolloutId, UnitName};
use serde::{Deserialize, Serialize};

use crate::{budget::Attempts, host::files, watch::Applied};

/// Of one app. What an older or newer agent left there is worth little: unknown fields are let through.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Upkeep {
    /// Since which activation.
    since: Option<(ReleaseId, RolloutId)>,
    /// Starts by the agent of units that were down.
    pub starts: BTreeMap<UnitName, Attempts>,
    /// Repairs, by the part's kind and name.
    pub repairs: BTreeMap<String, Attempts>,
    /// The invocation of each unit that was seen running while everything that it reads was right.
    pub proven: BTreeMap<UnitName, String>,
    /// What is under the watched paths of a part, as far as the part knows, by its kind and name.
    pub watched: BTreeMap<String, Applied>,
}

/// Of all apps: one small JSON file each.
pub struct Upkeeps {
    directory: PathBuf,
    held: Mutex<BTreeMap<AppName, Upkeep>>,
}

impl Upkeeps {
    /// Below the agent's state directory; the directory is made when it is first needed.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("upkeep"), held: Mutex::default() }
    }

    /// Looks at, and perhaps changes, what is remembered since an activation. A change is on disk when this returns; one
    /// that cannot be written counts until the agent is started again.
    pub fn with<T>(&self, app: &AppName, since: &(ReleaseId, RolloutId), change: impl FnOnce(&mut Upkeep) -> T) -> T {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let upkeep = held.entry(app.clone()).or_insert_with(|| self.load(app));
        let before = upkeep.clone();
        if upkeep.since.as_ref() != Some(since) {
            let watched = std::mem::take(&mut upkeep.watched);
            *upkeep = Upkeep { since: Some(since.clone()), watched, ..Upkeep::default() };
        }
        let answer = change(upkeep);
        if *upkeep != before
            && let Err(error) = self.save(app, upkeep)
        {
            tracing::warn!(%app, %error, "what was done for it is not on disk: started again, the agent would not know of it");
        }
        answer
    }

    /// The app is gone.
    pub fn forget(&self, app: &AppName) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(app);
        match fs::remove_file(self.path(app)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%app, %error, "what was remembered of it stays behind");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn load(&self, app: &AppName) -> Upkeep {
        let path = self.path(app);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Upkeep::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot be read; its budgets begin anew");
                return Upkeep::default();
            }
        };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "is damaged; its budgets begin anew");
            Upkeep::default()
        })
    }

    fn save(&self, app: &AppName, upkeep: &Upkeep) -> io::Result<()> {
        let bytes = serde_json::to_vec(upkeep).map_err(io::Error::other)?;
        fs::create_dir_all(&self.directory)?;
        files::write_private(&self.path(app), &bytes).map_err(io::Error::other)
    }

    fn path(&self, app: &AppName) -> PathBuf {
        self.directory.join(format!("{app}.json"))
    }
}

#[cfg(test)]
mod tests {
    //! What survives what.
    use super::*;
    use crate::budget::{Allowance, REPAIRS};

    #[test]
    fn a_budget_survives_the_agent_and_not_the_next_activation() {
        let directory = tempfile::tempdir().unwrap();
        let app: AppName = "mono".parse().unwrap();
        let since = (ReleaseId { app: app.clone(), number: 1 }, 1);
        let ask = |upkeep: &mut Upkeep| upkeep.repairs.entry("file /x".to_owned()).or_default().ask(&REPAIRS, 1000);
        let first = Upkeeps::new(directory.path());
        first.with(&app, &since, |upkeep| upkeep.repairs.entry("file /x".to_owned()).or_default().draw(&REPAIRS, 1000));
        let again = Upkeeps::new(directory.path());
        assert_eq!(again.with(&app, &since, ask), Allowance::NotBefore(11_000));
        assert_eq!(again.with(&app, &(since.0.clone(), 2), ask), Allowance::Now(1));
        again.forget(&app);
        fs::write(again.path(&app), "nonsense").unwrap();
        assert_eq!(again.with(&app, &since, ask), Allowance::Now(1));
    }
}
