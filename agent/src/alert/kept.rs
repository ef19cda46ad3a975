//! The alerts that are pending or fire, on the disk: an agent that is started again neither tells them anew nor forgets them. Beside
//! `alert`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::machine::{Held, Machine};
use crate::host::files;

/// Beside the agent's other files.
const FILE: &str = "alerts.json";

#[derive(Serialize, Deserialize)]
struct Document {
    /// In which life of the host: times since a boot mean something only in that.
    boot: String,
    alerts: Vec<Held>,
}

/// Where they are kept.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    boot: String,
}

impl Kept {
    /// Reads them. A file that is damaged is put aside, which is the last answer. `boot`: this life of the host.
    pub fn open(state_dir: &Path, boot: String) -> io::Result<(Self, Machine, Option<String>)> {
        let kept = Self { path: state_dir.join(FILE), boot };
        let bytes = match fs::read(&kept.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((kept, Machine::default(), None)),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<Document>(&bytes) {
            Ok(document) => {
                let same_boot = !kept.boot.is_empty() && document.boot == kept.boot;
                let machine = Machine::resumed(document.alerts, same_boot);
                Ok((kept, machine, None))
            }
            Err(error) => {
                let aside = files::set_aside(&kept.path)?;
                let said = format!(
                    "what was known of alerts was damaged ({error}); it lies in {} now, and what is wrong is told anew",
                    aside.display()
                );
                Ok((kept, Machine::default(), Some(said)))
            }
        }
    }

    /// They are on the disk when this returns.
    pub fn save(&self, machine: &Machine) -> io::Result<()> {
        let document = Document { boot: self.boot.clone(), alerts: machine.held().cloned().collect() };
        let bytes = serde_json::to_vec(&document).map_err(io::Error::other)?;
        files::write_private(&self.path, &bytes).map_err(io::Error::other)
    }
}
