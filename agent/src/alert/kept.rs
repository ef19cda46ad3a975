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
    disk: Disk,
}

/// How what is on the disk stands to what is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disk {
    Same,
    Other,
    /// It could not be written, which has been said.
    Unwritable,
}

impl Kept {
    /// Reads them. A file that is damaged is put aside, which is the last answer. `boot`: this life of the host.
    pub fn open(state_dir: &Path, boot: String) -> io::Result<(Self, Machine, Option<String>)> {
        // Written at the first look in any case: what lies on a host does not depend on what it has gone through.
        let kept = Self { path: state_dir.join(FILE), boot, disk: Disk::Other };
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

    /// They are on the disk when this returns; a disk that cannot be written is tried again at each look. `changed`: they are
    /// others than at the last look.
    pub fn follow(&mut self, machine: &Machine, changed: bool) {
        if changed && self.disk == Disk::Same {
            self.disk = Disk::Other;
        }
        if self.disk == Disk::Same {
            return;
        }
        let said = self.disk == Disk::Unwritable;
        self.disk = match self.save(machine) {
            Ok(()) => Disk::Same,
            Err(error) => {
                if !said {
                    tracing::warn!(%error, "alerts are not on the disk: started again, the agent would tell them anew");
                }
                Disk::Unwritable
            }
        };
    }

    fn save(&self, machine: &Machine) -> io::Result<()> {
        let document = Document { boot: self.boot.clone(), alerts: machine.held().cloned().collect() };
        let bytes = serde_json::to_vec(&document).map_err(io::Error::other)?;
        files::write_private(&self.path, &bytes).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    //! What is on the disk.
    use super::*;
    use crate::alert::{
        machine::{Finding, Now, Verdict},
        rules::{Active, RuleId},
    };

    #[test]
    fn what_older_agents_have_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (mut kept, mut machine, _) = Kept::open(dir.path(), "a boot".to_owned()).unwrap();
        let active = Active {
            id: RuleId { app: None, alert: "gone".parse().unwrap() },
            rule: drover_proto::alert::AlertRule::new("container gone for 10s".parse().unwrap()),
        };
        let (subject, service) = ("shop-web-1".to_owned(), Some("shop/web".to_owned()));
        let finding = Finding { app: None, subject, service, verdict: Verdict::Holds, said: String::new() };
        machine.look(&active, Some(&[finding]), Now { boot_ms: 5, unix_ms: 6 });
        kept.follow(&machine, true);
        let mut document: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.path().join(FILE)).unwrap()).unwrap();
        let alert = document["alerts"][0].as_object_mut().unwrap();
        for field in ["service", "test"] {
            assert!(alert.remove(field).is_some(), "{field}");
        }
        fs::write(dir.path().join(FILE), document.to_string()).unwrap();
        let (_, older, damaged) = Kept::open(dir.path(), "a boot".to_owned()).unwrap();
        let reported = |machine: &Machine| machine.reported(&std::collections::BTreeSet::new());
        assert_eq!((damaged, reported(&older)), (None, reported(&machine)));
    }

    #[test]
    fn a_disk_that_could_not_be_written_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        let (mut kept, machine, damaged) = Kept::open(&state, "a boot".to_owned()).unwrap();
        assert_eq!(damaged, None);
        fs::remove_dir(&state).unwrap();
        kept.follow(&machine, false);
        assert_eq!(kept.disk, Disk::Unwritable);
        fs::create_dir(&state).unwrap();
        kept.follow(&machine, false);
        assert_eq!(kept.disk, Disk::Same);
        fs::remove_file(state.join(FILE)).unwrap();
        kept.follow(&machine, false);
        assert!(!state.join(FILE).exists(), "nothing is written while nothing changes");
        kept.follow(&machine, true);
        assert!(Kept::open(&state, "a boot".to_owned()).unwrap().2.is_none());
        fs::write(state.join(FILE), "{").unwrap();
        let (_, machine, damaged) = Kept::open(&state, "a boot".to_owned()).unwrap();
        assert!(damaged.unwrap().contains("was damaged") && machine == Machine::default());
    }
}
