//! The rules of this host: those that the coordinator has sent, kept on the disk, over the built-in ones, and those of the apps that
//! are committed. Beside `alert`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use drover_proto::{
    alert::{AlertRule, RuleSet},
    limits::{MAX_ALERT_RULES, MAX_MESSAGE_BYTES},
    name::{AlertName, AppName},
};

use crate::host::files;

/// Beside the agent's other files.
const FILE: &str = "alert-rules.json";

/// Which rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RuleId {
    /// Whose; `None` = the host's.
    pub app: Option<AppName>,
    /// Its name.
    pub alert: AlertName,
}

/// A rule that is looked at here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Active {
    /// Which.
    pub id: RuleId,
    /// What it says.
    pub rule: AlertRule,
}

/// What the coordinator has sent.
#[derive(Debug)]
pub struct Rules {
    path: PathBuf,
    document: Vec<u8>,
    set: RuleSet,
}

impl Rules {
    /// Reads them. A file that is damaged is put aside, which is the second answer: the built-in rules count from then on.
    pub fn open(state_dir: &Path) -> io::Result<(Self, Option<String>)> {
        let path = state_dir.join(FILE);
        let (document, said) = match fs::read(&path) {
            Ok(bytes) => match read(&bytes) {
                Ok(set) => return Ok((Self { path, document: bytes, set }, None)),
                Err(why) => {
                    let aside = files::set_aside(&path)?;
                    let said = format!(
                        "the rules of alerts were damaged ({why}); they lie in {} now, and the built-in rules count until the \
                         coordinator sends its own again",
                        aside.display()
                    );
                    (Vec::new(), Some(said))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) => return Err(error),
        };
        Ok((Self { path, document, set: RuleSet::default() }, said))
    }

    /// Takes a document in place of the one that is held; whether it is another. One that breaks a rule is refused whole.
    pub fn accept(&mut self, document: &[u8]) -> Result<bool, String> {
        if document == self.document {
            return Ok(false);
        }
        let set = read(document)?;
        files::write_private(&self.path, document).map_err(|error| format!("cannot keep them: {error}"))?;
        (self.document, self.set) = (document.to_vec(), set);
        Ok(true)
    }

    /// All that are looked at here, those of apps before the host's.
    #[must_use]
    pub fn active<'a>(
        &self,
        apps: impl Iterator<Item = (&'a AppName, &'a BTreeMap<AlertName, AlertRule>)>,
    ) -> Vec<Active> {
        let mut all = Vec::new();
        for (app, rules) in apps {
            for (alert, rule) in rules.iter().take(MAX_ALERT_RULES) {
                all.push(Active { id: RuleId { app: Some(app.clone()), alert: alert.clone() }, rule: rule.clone() });
            }
        }
        all.extend(
            self.set.effective().into_iter().map(|(alert, rule)| Active { id: RuleId { app: None, alert }, rule }),
        );
        // What an app's spec says was checked when it was accepted; an older agent may have let through what this one refuses.
        all.retain(|active| !active.rule.when.test.is_of_coordinator() && active.rule.check().is_empty());
        all
    }
}

fn read(document: &[u8]) -> Result<RuleSet, String> {
    if document.len() > MAX_MESSAGE_BYTES {
        return Err(format!("they have more than {} MiB", MAX_MESSAGE_BYTES >> 20));
    }
    let set: RuleSet = serde_json::from_slice(document).map_err(|error| format!("they cannot be read: {error}"))?;
    if set.rules.len() > MAX_ALERT_RULES {
        return Err(format!("they are {}, at most {MAX_ALERT_RULES} are allowed", set.rules.len()));
    }
    for (name, rule) in &set.rules {
        if let Some((field, what)) = rule.check().first() {
            return Err(format!("alert {name}: {field}: {what}"));
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    //! What is taken, what is refused, and what is there after a restart.
    use super::*;

    fn names(rules: &Rules) -> Vec<String> {
        rules.active(std::iter::empty()).iter().map(|active| active.id.alert.to_string()).collect()
    }

    #[test]
    fn rules_are_kept_and_what_cannot_be_read_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut rules, said) = Rules::open(dir.path()).unwrap();
        assert!(said.is_none());
        let builtin = names(&rules);
        assert!(builtin.contains(&"disk".to_owned()) && !builtin.contains(&"unreachable".to_owned()), "{builtin:?}");
        let sent = br#"{"rules":{"hot":{"when":"cpu > 50% for 1m"}},"off":["disk"]}"#;
        assert_eq!(rules.accept(sent), Ok(true));
        assert_eq!(rules.accept(sent), Ok(false));
        let now = names(&rules);
        assert!(now.contains(&"hot".to_owned()) && !now.contains(&"disk".to_owned()), "{now:?}");
        let refused: [(&[u8], &str); 4] = [
            (b"{", "cannot be read"),
            (br#"{"rules":{"hot":{"when":"cpu > much"}}}"#, "write a number"),
            (br#"{"rules":{"hot":{"when":"cpu > 50%","every":"1ms"}}}"#, "alert hot: every: must be"),
            (br#"{"rules":{},"new":1}"#, "unknown field"),
        ];
        for (document, words) in refused {
            let why = rules.accept(document).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        assert_eq!(names(&rules), now);
        let (mut again, said) = Rules::open(dir.path()).unwrap();
        assert!(said.is_none() && names(&again) == now);
        assert_eq!(again.accept(sent), Ok(false));
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "nonsense").unwrap();
        let (rules, said) = Rules::open(dir.path()).unwrap();
        assert!(said.unwrap().contains("alert-rules.json.damaged-"));
        assert!(names(&rules).contains(&"disk".to_owned()));
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn rules_of_apps_come_first_and_bad_ones_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let (rules, _) = Rules::open(dir.path()).unwrap();
        let rule = |when: &str| AlertRule::new(when.parse().unwrap());
        let app: AppName = "mono".parse().unwrap();
        let bad = AlertRule { every: drover_proto::duration::Span::from_ms(1), ..rule("cpu > 5%") };
        let of_app = BTreeMap::from([
            ("a".parse().unwrap(), rule("check failing")),
            ("b".parse().unwrap(), bad),
            ("c".parse().unwrap(), rule("host unreachable")),
        ]);
        let active = rules.active([(&app, &of_app)].into_iter());
        let of_apps: Vec<_> = active.iter().filter(|active| active.id.app.is_some()).collect();
        assert_eq!(of_apps.len(), 1);
        assert_eq!(active[0].id.alert.as_str(), "a");
    }
}
