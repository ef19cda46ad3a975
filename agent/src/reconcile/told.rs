//! What has been told of parts that are not as they should be, so that each thing is told once, and the words for it.
//! Beside `reconcile`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use drover_proto::name::AppName;

use crate::drift::Part;

/// The last thing told of each part.
#[derive(Default)]
pub(super) struct Told(Mutex<BTreeMap<(AppName, Part), String>>);

impl Told {
    /// Whether `text` is news about the part; from now on it is not.
    pub(super) fn is_news(&self, app: &AppName, part: &Part, text: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert((app.clone(), part.clone()), text.to_owned()).is_none_or(|before| before != text)
    }

    /// What was told of it last.
    pub(super) fn last(&self, app: &AppName, part: &Part) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(app.clone(), part.clone())).cloned()
    }

    /// All is well with the other parts of the app: if that changes, it is news.
    pub(super) fn keep(&self, app: &AppName, still: impl Fn(&Part) -> bool) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(of, part), _| of != app || still(part));
    }
}

/// A time of the day.
pub(super) fn clock(unix_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(unix_ms) {
        Ok(at) => at.strftime("%H:%M:%S UTC").to_string(),
        Err(_) => "a time that no clock shows".to_owned(),
    }
}
