//! The checks of a release, each looked at in its own interval in the background. Beside `gate`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use drover_proto::name::CheckName;
use tokio::task::JoinSet;

use crate::check::{Asker, RenderedCheck};

/// The last answer of one check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Whether it was as wanted.
    pub ok: bool,
    /// What came back, and what was wanted.
    pub text: String,
    /// The beginning of a body that was not as wanted.
    pub body: Option<String>,
    /// How often it was not as wanted.
    pub failures: u64,
}

/// Checks that go on until this is dropped.
pub struct Checks {
    answers: Arc<Mutex<BTreeMap<CheckName, Answer>>>,
    /// Aborts every look when dropped.
    _looks: JoinSet<()>,
}

impl Checks {
    /// Begins to look.
    #[must_use]
    pub fn begin(checks: &BTreeMap<CheckName, RenderedCheck>, asker: &Asker) -> Self {
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        let mut looks = JoinSet::new();
        for (name, check) in checks {
            looks.spawn(look(name.clone(), check.clone(), asker.clone(), answers.clone()));
        }
        Self { answers, _looks: looks }
    }

    /// The last answers; a check that has not answered yet is missing.
    #[must_use]
    pub fn answers(&self) -> BTreeMap<CheckName, Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn look(name: CheckName, check: RenderedCheck, asker: Asker, answers: Arc<Mutex<BTreeMap<CheckName, Answer>>>) {
    let mut failures = 0;
    loop {
        let probed = asker.probe(&check).await;
        failures += u64::from(!probed.ok);
        let answer = Answer { ok: probed.ok, text: probed.answer, body: probed.body, failures };
        answers.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), answer);
        tokio::time::sleep(check.interval.as_duration()).await;
    }
}
