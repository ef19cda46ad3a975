//! The change from one CA to another, as directories: `ca-next` is made and not used yet, `ca` signs, `ca-old` is only trusted.
//! Whatever there is, is trusted. Each step is a rename, and one that was cut short is finished at the next look. `admin/ca`
//! decides when; hosts and operators learn of the CAs by renewing their certificates (`renewal`).

use std::{fs, io, path::Path};

use rustls::pki_types::CertificateDer;

use super::{Ca, CaError};
use crate::config::StateDir;

/// How far a change is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// There is one CA.
    Settled,
    /// The next one is made and made known.
    Announced,
    /// The next one signs; the old one is trusted.
    Switched,
}

/// How far it is.
#[must_use]
pub fn stage(dir: &StateDir) -> Stage {
    match (dir.ca_next().exists(), dir.ca_old().exists()) {
        (false, false) => Stage::Settled,
        (true, _) => Stage::Announced,
        (false, true) => Stage::Switched,
    }
}

/// The CA that signs, trusting the other one, if there is one.
pub fn open(dir: &StateDir) -> Result<Ca, CaError> {
    finish(dir).map_err(failed(dir.path()))?;
    let also = [dir.ca_next(), dir.ca_old()].into_iter().filter(|path| path.exists());
    let also: Vec<CertificateDer<'static>> =
        also.map(|path| Ca::load(&path).map(|ca| ca.certificate().clone())).collect::<Result<_, _>>()?;
    Ok(Ca::load(&dir.ca())?.beside(also))
}

/// Whether there is a CA, or a switch that `open` finishes.
#[must_use]
pub fn exists(dir: &StateDir) -> bool {
    dir.ca().exists() || (dir.ca_next().exists() && dir.ca_old().exists())
}

/// Settled → announced.
pub fn announce(dir: &StateDir) -> Result<Ca, CaError> {
    Ca::create(&dir.ca_next())
}

/// Announced → switched.
pub fn switch(dir: &StateDir) -> Result<(), CaError> {
    let renames = || {
        fs::rename(dir.ca(), dir.ca_old())?;
        finish(dir)
    };
    renames().map_err(failed(dir.path()))
}

/// Switched → settled.
pub fn retire(dir: &StateDir) -> Result<(), CaError> {
    let renames = || {
        fs::rename(dir.ca_old(), gone(dir))?;
        finish(dir)
    };
    renames().map_err(failed(dir.path()))
}

fn gone(dir: &StateDir) -> std::path::PathBuf {
    dir.ca_old().with_added_extension("gone")
}

/// Does what a step that was cut short has left to do.
fn finish(dir: &StateDir) -> io::Result<()> {
    if !dir.ca().exists() && dir.ca_next().exists() && dir.ca_old().exists() {
        fs::rename(dir.ca_next(), dir.ca())?;
    }
    if gone(dir).exists() {
        fs::remove_dir_all(gone(dir))?;
    }
    fs::File::open(dir.path())?.sync_all()
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CaError {
    let path = path.display().to_string();
    move |source| CaError::Files { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    //! Every step, also when it was cut short.
    use super::*;

    #[test]
    fn one_ca_takes_over_from_another() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = StateDir(temporary.path().to_owned());
        let first = Ca::create(&dir.ca()).unwrap().fingerprint();
        assert_eq!((stage(&dir), open(&dir).unwrap().roots()), (Stage::Settled, vec![first]));
        let second = announce(&dir).unwrap().fingerprint();
        assert!(announce(&dir).is_err(), "a second one over it");
        let ca = open(&dir).unwrap();
        assert_eq!((stage(&dir), ca.fingerprint(), ca.roots().len()), (Stage::Announced, first, 2));
        // A switch that was cut short after its first rename.
        fs::rename(dir.ca(), dir.ca_old()).unwrap();
        assert!(exists(&dir));
        let ca = open(&dir).unwrap();
        assert_eq!((stage(&dir), ca.fingerprint(), ca.roots().len()), (Stage::Switched, second, 2));
        // A retirement that was cut short after its rename.
        fs::rename(dir.ca_old(), gone(&dir)).unwrap();
        let ca = open(&dir).unwrap();
        assert_eq!((stage(&dir), ca.roots()), (Stage::Settled, vec![second]));
        assert!(!gone(&dir).exists());
        announce(&dir).unwrap();
        switch(&dir).unwrap();
        retire(&dir).unwrap();
        assert_eq!(stage(&dir), Stage::Settled);
        assert_ne!(open(&dir).unwrap().fingerprint(), second);
    }
}
