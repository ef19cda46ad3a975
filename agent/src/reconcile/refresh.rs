//! Looks at what is committed: `mend` puts right what is not as it should be, and this says how everything stands. Beside
//! `reconcile`.

use std::collections::BTreeMap;

use drover_proto::{
    name::CheckName,
    spec::DesiredApp,
    status::{CheckStatus, Phase},
};

use super::{Work, mend::Notes};
use crate::{check::standing::Standing, drift::Part, ledger::AppLedger, observe::Observed, render::Rendered, report};

/// What has not changed is told again after this, with its new time.
const RETOLD_MS: i64 = 60_000;
/// More failures in a row are told as so many.
const MOST_TOLD: u32 = 1000;

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
        let standings = self.answers(rendered).await;
        let answers = standings.iter().map(|(name, it)| (name.clone(), (it.ok, it.told()))).collect();
        let parts = report::parts(rendered, observed, &failing, &answers);
        let mut notes = notes.clone();
        notes.extend(self.left_down(rendered, observed));
        notes.extend(self.shared.unread.of(&self.app));
        notes.extend(failing.into_iter().map(|(job, how)| (Part::Unit(job), how)));
        let problems = report::problems(rendered, &parts, &notes);
        self.shared.board.app(&self.app, |status| {
            status.parts = parts;
            let before = std::mem::take(&mut status.checks);
            status.checks = standings.iter().map(|(name, it)| (name.clone(), told(it, before.get(name)))).collect();
        });
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

    async fn answers(&self, rendered: &Rendered) -> BTreeMap<CheckName, Standing> {
        let mut answers = BTreeMap::new();
        for (name, check) in &rendered.checks {
            answers.insert(name.clone(), self.shared.standing(&self.app, name, check).await);
        }
        answers
    }
}

/// How a check stands, for the report: what is only another time is told once a minute.
fn told(standing: &Standing, before: Option<&CheckStatus>) -> CheckStatus {
    let now = CheckStatus {
        ok: standing.ok,
        answer: standing.told(),
        took_ms: u64::try_from(standing.took.as_millis()).unwrap_or(u64::MAX),
        at_unix_ms: standing.at_unix_ms,
        failures: standing.failures.min(MOST_TOLD),
    };
    let is_same = |before: &&CheckStatus| {
        (before.ok, &before.answer) == (now.ok, &now.answer)
            && (0..RETOLD_MS).contains(&now.at_unix_ms.saturating_sub(before.at_unix_ms))
    };
    before.filter(is_same).cloned().unwrap_or(now)
}

#[cfg(test)]
mod tests {
    //! What is told of a check, and when.
    use std::time::Duration;

    use super::*;

    #[test]
    fn another_time_alone_is_told_once_a_minute() {
        let at = |at_unix_ms, answer: &str| Standing {
            ok: true,
            answer: answer.into(),
            failures: 0,
            passes: 0,
            took: Duration::from_millis(7),
            at_unix_ms,
            left: None,
        };
        let first = told(&at(1000, "200 OK"), None);
        assert_eq!((first.took_ms, first.at_unix_ms), (7, 1000));
        assert_eq!(told(&at(60_999, "200 OK"), Some(&first)), first);
        assert_eq!(told(&at(61_000, "200 OK"), Some(&first)).at_unix_ms, 61_000);
        assert_eq!(told(&at(2000, "204"), Some(&first)).at_unix_ms, 2000);
        assert_eq!(told(&at(500, "200 OK"), Some(&first)).at_unix_ms, 500, "the clock was put back");
    }
}
