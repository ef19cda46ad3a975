//! Reads the certificates of apps and the agent's own, now and then, each app's on a thread of its own: one on a file system that does
//! not answer keeps nobody waiting but itself. Part of `alert`.

use std::path::Path;

use drover_proto::{alert::Test, name::AppName};

use super::{Done, Task, scene::Expiry};
use crate::{host::certificate, identity::Identity};

/// How the agent's own is called.
const OWN: &str = "agent";

impl Task {
    /// Has them read, if a rule is about them; but those of which the last reading has not ended.
    pub(super) fn read_certificates(&mut self) {
        if !self.active.iter().any(|active| matches!(active.rule.when.test, Test::CertificateExpires(_))) {
            return;
        }
        let of_apps = self.scene.apps.iter().map(|(app, scope)| {
            let (of, paths) = (Some(app.clone()), scope.certificates.clone());
            (app.clone(), move || paths.iter().map(|path| of_app(of.clone(), path)).collect())
        });
        for (app, read) in of_apps.collect::<Vec<_>>() {
            self.read_certificates_of(Some(app), read);
        }
        let state_dir = self.state_dir.clone();
        self.read_certificates_of(None, move || own(&state_dir).into_iter().collect());
    }

    fn read_certificates_of(&mut self, whose: Option<AppName>, read: impl FnOnce() -> Vec<Expiry> + Send + 'static) {
        if self.reading_certificates.insert(whose.clone()) {
            self.work.spawn_blocking(move || Done::Certificates(whose, read()));
        }
    }
}

fn of_app(app: Option<AppName>, path: &str) -> Expiry {
    let chain = certificate::read(Path::new(path)).inspect_err(|why| tracing::debug!(why, "is not read"));
    let until_s = chain.ok().and_then(|chain| certificate::until(&chain));
    Expiry { app, subject: path.to_owned(), until_s }
}

/// A host that is not enrolled has none.
fn own(state_dir: &Path) -> Option<Expiry> {
    let identity = Identity::load(state_dir).ok()??;
    Some(Expiry { app: None, subject: OWN.to_owned(), until_s: Some(identity.not_after_unix_ms / 1000) })
}

#[cfg(test)]
mod tests {
    //! What cannot be read.
    use super::*;

    #[test]
    fn certificates_that_cannot_be_read_are_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none").display().to_string();
        assert_eq!(of_app(None, &path), Expiry { app: None, subject: path.clone(), until_s: None });
        assert_eq!(own(dir.path()), None);
    }
}
