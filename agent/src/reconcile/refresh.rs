//! Looks at what is committed: `mend` puts right what is not as it should be, and this says how everything stands. Beside
//! `reconcile`.

use std::collections::BTreeMap;

use drover_proto::{name::CheckName, spec::DesiredApp, status::Phase};

use super::{Work, mend::Notes};
use crate::{drift::Part, ledger::AppLedger, observe::Observed, render::Rendered, report};

impl Work<'_> {
    /// Compares what is there with the committed release `current`, mends it, and says how it stands.
    pub(super) async fn refresh(&mut self, current: &DesiredApp) {
        if let Some((rendered, observed, notes)) = self.inspect(current).await {
            self.shared.turns.take(None, &mut self.held).await;
            self.publish(&rendered, &observed, &notes).await;
        }
    }

    pub(super) async fn inspect(&mut self, current: &DesiredApp) -> Option<(Rendered, Observed, Notes)> {
        let rendered = match self.committed(current) {
            Ok(rendered) => rendered,
            Err(error) => {
                self.degrade(vec![error.to_string()]);
                return None;
            }
        };
        match self.mend(&rendered).await {
            Ok((observed, notes)) => Some((rendered, observed, notes)),
            Err(failed) => {
                tracing::warn!(app = %self.app, cause = failed.cause, "cannot be looked after");
                None
            }
        }
    }

    pub(super) async fn publish(&self, rendered: &Rendered, observed: &Observed, notes: &Notes) {
        // As they are on this host now: its name and labels may be in them.
        self.shared.ask_checks(&self.app, Some(rendered));
        let failing = self.failing(rendered, observed);
        let parts = report::parts(rendered, observed, &failing, &self.answers(rendered).await);
        let mut notes = notes.clone();
        notes.extend(self.left_down(rendered, observed));
        notes.extend(self.shared.unread.of(&self.app));
        notes.extend(failing.into_iter().map(|(job, how)| (Part::Unit(job), how)));
        let problems = report::problems(rendered, &parts, &notes);
        self.shared.board.app(&self.app, |status| status.parts = parts);
        self.degrade(problems);
    }

    /// Healthy becomes degraded and back; every other phase stays as it is.
    fn degrade(&self, problems: Vec<String>) {
        let healthy = |ledger: &AppLedger| match &ledger.settled.as_ref()?.phase {
            phase @ Phase::Healthy { .. } => Some(phase.clone()),
            _ => None,
        };
        let Some(healthy) = healthy(&self.ledger) else { return };
        self.shared.board.app(&self.app, |status| {
            if matches!(status.phase, Phase::Healthy { .. } | Phase::Degraded { .. }) {
                status.phase = if problems.is_empty() { healthy } else { Phase::Degraded { problems } };
            }
        });
    }

    async fn answers(&self, rendered: &Rendered) -> BTreeMap<CheckName, (bool, String)> {
        let mut answers = BTreeMap::new();
        for (name, check) in &rendered.checks {
            let standing = self.shared.standing(&self.app, name, check).await;
            answers.insert(name.clone(), (standing.ok, standing.answer));
        }
        answers
    }
}
