//! What signals and answers of systemd make of what is known of its units. Pure; `table` feeds it.
//!
//! A signal that was heard while a question was open counts again behind the answer. If the answer was newer, what is wrong by it
//! is put right by the signals that follow, which are all still to come.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use zbus::{Message, OwnedObjectPath, Variant};

use super::super::{ListedUnit, list::Listed};

/// Below it systemd has an object for each unit.
pub(super) const UNITS_PATH: &str = "/org/freedesktop/systemd1/unit";
/// The interface with what all kinds of units have.
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// Signals that are kept for being told, or units that are asked for by name, at most: of more all are asked for.
const MAX_KEPT: usize = 4096;
const MAX_ASKED: usize = 64;

/// All units, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Units {
    by_name: BTreeMap<String, ListedUnit>,
    /// Another one with each change.
    revision: u64,
    /// Another one when systemd has read its files anew.
    reading: u64,
}

impl Units {
    /// How one stands; `None`: systemd does not have it in memory.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ListedUnit> {
        self.by_name.get(name)
    }
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ListedUnit> {
        self.by_name.values()
    }
    /// Another number whenever anything has changed.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }
    /// Another number when systemd has read its unit files anew.
    #[must_use]
    pub fn reading(&self) -> u64 {
        self.reading
    }

    /// These, as systemd lists them.
    #[cfg(test)]
    #[must_use]
    pub fn of(units: impl IntoIterator<Item = ListedUnit>) -> Self {
        Self { by_name: units.into_iter().map(|unit| (unit.name.clone(), unit)).collect(), revision: 1, reading: 1 }
    }

    fn put(&mut self, listed: Listed) {
        let known = self.by_name.get(&listed.name);
        if known.is_some_and(|known| listed.is_as(known)) {
            return;
        }
        let unit = listed.into_unit(self.revision);
        self.by_name.insert(unit.name.clone(), unit);
    }

    /// One that is not known is none of those that were asked for, or is about to be.
    fn stands(&mut self, name: &str, active_state: String, sub_state: String) {
        if let Some(unit) = self.by_name.get_mut(name) {
            (unit.active_state, unit.sub_state, unit.changed) = (active_state, sub_state, self.revision);
        }
    }
}

/// What is to be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Question {
    All,
    These(Vec<String>),
}

/// What was said to it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) question: Question,
    pub(super) units: Vec<Listed>,
}

/// What came of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    Nothing,
    /// There is something to tell.
    State,
    /// There is something to ask.
    Open,
}

/// One signal, as far as it matters.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Told {
    New(String),
    Removed(String),
    Stands(String, String, String),
    /// systemd begins to read its files anew (true), or has (false).
    Reloading(bool),
    /// It has come to the end of its start.
    Started,
}

/// What was heard and not told yet, and what is open.
#[derive(Default)]
pub(super) struct Model {
    heard: Vec<Told>,
    /// Heard while a question was open.
    meanwhile: Vec<Told>,
    answers: Vec<Answer>,
    /// Units of which it was heard that they are there.
    new: BTreeSet<String>,
    is_known: bool,
    is_asking: bool,
    is_reloading: bool,
    /// Unit files may be others than before.
    is_read_anew: bool,
    is_in_doubt: bool,
}

impl Model {
    /// Something may have been missed.
    pub(super) fn doubt(&mut self) {
        self.is_in_doubt = true;
        self.is_reloading = false;
    }

    /// Takes a signal in.
    pub(super) fn hear(&mut self, signal: &Message) -> Heard {
        read(signal).map_or(Heard::Nothing, |told| self.hear_told(told))
    }

    fn hear_told(&mut self, told: Told) -> Heard {
        let heard = match &told {
            Told::Reloading(is_reloading) => {
                self.is_reloading = *is_reloading;
                // What was asked before may be older than what was read.
                (self.is_in_doubt, self.is_read_anew) = (true, true);
                return if *is_reloading { Heard::Nothing } else { Heard::Open };
            }
            // All units go and come back; behind it all are asked for.
            _ if self.is_reloading => return Heard::Nothing,
            Told::New(_) => Heard::Open,
            Told::Removed(_) | Told::Stands(..) | Told::Started => Heard::State,
        };
        if self.heard.len() + self.meanwhile.len() >= MAX_KEPT {
            self.heard.clear();
            self.meanwhile.clear();
            self.doubt();
            return Heard::Open;
        }
        if self.is_asking {
            self.meanwhile.push(told.clone());
        }
        self.heard.push(told);
        heard
    }

    /// Takes an answer in.
    pub(super) fn take(&mut self, answer: Answer) {
        self.is_asking = false;
        self.answers.push(answer);
    }

    /// What is open; it counts as asked.
    pub(super) fn question(&mut self) -> Option<Question> {
        if self.is_reloading && self.is_known {
            return None;
        }
        let question = if self.is_in_doubt || !self.is_known || self.new.len() > MAX_ASKED {
            (self.is_in_doubt, self.is_known) = (false, true);
            self.new.clear();
            Question::All
        } else if self.new.is_empty() {
            return None;
        } else {
            Question::These(std::mem::take(&mut self.new).into_iter().collect())
        };
        self.is_asking = true;
        Some(question)
    }

    /// Puts all that is known by now into `units`; whether that is something new.
    pub(super) fn tell(&mut self, units: &mut Option<Arc<Units>>) -> bool {
        if self.heard.is_empty() && self.answers.is_empty() {
            return false;
        }
        let is_answered = !self.answers.is_empty();
        // Nothing is known before the first answer.
        let known = match units {
            None if !self.answers.iter().any(|answer| answer.question == Question::All) => {
                self.heard.clear();
                return false;
            }
            None => units.insert(Arc::default()),
            Some(units) => units,
        };
        let known = Arc::make_mut(known);
        known.revision += 1;
        for answer in std::mem::take(&mut self.answers) {
            self.learn(answer, known);
        }
        // What has not been told yet is behind it; of what is in both the second time changes nothing.
        let again = if is_answered { std::mem::take(&mut self.meanwhile) } else { Vec::new() };
        for told in again.into_iter().chain(std::mem::take(&mut self.heard)) {
            self.apply(told, known);
        }
        true
    }

    fn apply(&mut self, told: Told, units: &mut Units) {
        match told {
            Told::New(name) => {
                self.new.insert(name);
            }
            Told::Removed(name) => {
                self.new.remove(&name);
                units.by_name.remove(&name);
            }
            Told::Stands(name, active_state, sub_state) => units.stands(&name, active_state, sub_state),
            Told::Started | Told::Reloading(_) => {}
        }
    }

    fn learn(&mut self, answer: Answer, units: &mut Units) {
        match answer.question {
            Question::All => {
                let there: BTreeSet<&str> = answer.units.iter().map(|unit| unit.name.as_str()).collect();
                units.by_name.retain(|name, _| there.contains(name.as_str()));
                if std::mem::take(&mut self.is_read_anew) {
                    units.reading += 1;
                }
            }
            Question::These(names) => {
                // It is another than before, if it was known.
                for name in names {
                    units.by_name.remove(&name);
                }
            }
        }
        for unit in answer.units {
            units.put(unit);
        }
    }
}

/// What a signal says, if it is one of those that matter.
fn read(signal: &Message) -> Option<Told> {
    let header = signal.header();
    let body = signal.body();
    match header.member()?.as_str() {
        "PropertiesChanged" => {
            let name = name_of(header.path()?.as_str())?;
            let (of, changed, _): (&str, HashMap<&str, Variant<'_>>, Vec<&str>) = body.deserialize().ok()?;
            let word = |key: &str| changed.get(key).and_then(|value| <&str>::try_from(value).ok()).map(str::to_owned);
            (of == UNIT).then_some(())?;
            Some(Told::Stands(name, word("ActiveState")?, word("SubState").unwrap_or_default()))
        }
        "UnitNew" => Some(Told::New(body.deserialize::<(String, OwnedObjectPath)>().ok()?.0)),
        "UnitRemoved" => Some(Told::Removed(body.deserialize::<(String, OwnedObjectPath)>().ok()?.0)),
        "Reloading" => Some(Told::Reloading(body.deserialize().ok()?)),
        "StartupFinished" => Some(Told::Started),
        _ => None,
    }
}

/// Of a unit's object: `_2e` is a dot.
fn name_of(path: &str) -> Option<String> {
    let label = path.strip_prefix(UNITS_PATH)?.strip_prefix('/')?;
    let mut name = Vec::with_capacity(label.len());
    let mut bytes = label.bytes();
    while let Some(byte) = bytes.next() {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match byte {
            b'_' => name.push(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?),
            other => name.push(other),
        }
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests;
