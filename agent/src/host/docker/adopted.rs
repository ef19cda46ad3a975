//! Which containers that drover has not made are an app's all the same. They have no label of drover's, and cannot be
//! given one without being made anew; what says so is the app's ledger. Part of `docker`; `ledger/store` tells it whatever
//! it has put on the disk.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use drover_proto::{digest::Digest, name::AppName};

use crate::ledger::AppLedger;

/// By the containers' ids: whose, and what the app's release came to when it took it over.
#[derive(Clone, Default, Debug)]
pub struct Adoptions(Arc<RwLock<BTreeMap<String, (AppName, Digest)>>>);

impl Adoptions {
    /// What a ledger says now.
    pub fn tell(&self, ledger: &AppLedger) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (app, _)| *app != ledger.app);
        let as_they_are = ledger.adopted.values().filter_map(|it| Some((it.id.clone(), it.fingerprint?)));
        all.extend(as_they_are.map(|(id, fingerprint)| (id, (ledger.app.clone(), fingerprint))));
    }

    /// An app is gone.
    pub fn forget(&self, app: &AppName) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, (whose, _)| whose != app);
    }

    /// Whose a container is.
    #[must_use]
    pub fn of(&self, id: &str) -> Option<(AppName, Digest)> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}
