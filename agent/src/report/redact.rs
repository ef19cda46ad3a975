//! Takes the values of an app's secrets out of everything that leaves the host or goes to a log: a program may print
//! what it was given. Beside `report`; `reconcile` puts failures and steps through it, the board every status.

use drover_proto::{
    spec::DesiredApp,
    status::{AppStatus, Evidence, Failure, Phase},
};

use crate::exec::StepFailure;

/// Shorter values would make texts unreadable and tell an observer that they are there.
const MIN_BYTES: usize = 6;
const SHOWN: &str = "[secret]";

/// The values that must not be shown.
#[derive(Clone, Default)]
pub struct Redactor(Vec<String>);

impl Redactor {
    /// The values that any of these releases has.
    pub fn of<'a>(apps: impl IntoIterator<Item = &'a DesiredApp>) -> Self {
        let mut values: Vec<String> = Vec::new();
        for value in apps.into_iter().flat_map(|app| app.secrets.values()).map(|value| value.expose()) {
            values.push(value.clone());
            // A key of several lines comes back line by line, and programs like to print things as JSON.
            values.extend(value.lines().map(|line| line.trim().to_owned()));
            values.extend(serde_json::to_string(value).ok().map(|json| json.trim_matches('"').to_owned()));
        }
        values.retain(|value| value.len() >= MIN_BYTES);
        // Longest first: one value may be the beginning of another.
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        Self(values)
    }

    /// Whether there is nothing to take out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text with `[secret]` for each value.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, value| {
            if text.contains(value.as_str()) { text.replace(value.as_str(), SHOWN) } else { text }
        })
    }

    /// A failed step, to be logged, kept and reported.
    #[must_use]
    pub fn step_failure(&self, failed: StepFailure) -> StepFailure {
        let StepFailure { code, step, cause, evidence } = failed;
        StepFailure { code, step: self.text(&step), cause: self.text(&cause), evidence: self.evidence(evidence) }
    }

    /// All that is said of one app.
    pub(super) fn status(&self, status: &mut AppStatus) {
        if self.is_empty() {
            return;
        }
        self.phase(&mut status.phase);
        for part in &mut status.parts {
            part.desired = self.text(&part.desired);
            part.observed = self.text(&part.observed);
        }
        for check in status.checks.values_mut() {
            check.answer = self.text(&check.answer);
        }
        if let Some(Failure { step, cause, evidence, .. }) = &mut status.failure {
            *step = self.text(step);
            *cause = self.text(cause);
            *evidence = self.evidence(std::mem::take(evidence));
        }
    }

    fn phase(&self, phase: &mut Phase) {
        match phase {
            Phase::Fetching { step: text }
            | Phase::Staging { step: text }
            | Phase::Activating { step: text }
            | Phase::Removing { step: text }
            | Phase::Reverting { cause: text }
            | Phase::Reverted { cause: text, .. }
            | Phase::Failed { cause: text } => *text = self.text(text),
            Phase::Gating { waiting_for: texts, .. } | Phase::Degraded { problems: texts } => {
                texts.iter_mut().for_each(|text| *text = self.text(text));
            }
            Phase::Pending | Phase::Healthy { .. } | Phase::Removed => {}
        }
    }

    fn evidence(&self, evidence: Vec<Evidence>) -> Vec<Evidence> {
        let redacted = |Evidence { title, lines }| Evidence {
            title: self.text(&title),
            lines: lines.iter().map(|line: &String| self.text(line)).collect(),
        };
        evidence.into_iter().map(redacted).collect()
    }
}

#[cfg(test)]
mod tests {
    //! No value of a secret is left in anything.
    use drover_proto::{code::Code, secret::Secret, status::PartStatus};

    use super::*;
    use crate::{render::tests::desired, report::Board};

    fn redactor(values: &[&str]) -> Redactor {
        let mut app = desired();
        app.secrets.clear();
        for (i, value) in values.iter().enumerate() {
            app.secrets.insert(format!("KEY{i}").parse().unwrap(), Secret::new((*value).to_owned()));
        }
        Redactor::of([&app])
    }

    #[test]
    fn values_are_replaced_long_ones_first_and_short_ones_not_at_all() {
        let redactor = redactor(&["hunter2", "hunter2-and-more", "on", "first line\nsecond line\n", "quo\"ted!"]);
        let table = [
            ("password hunter2, hunter2", "password [secret], [secret]"),
            ("hunter2-and-more", "[secret]"),
            ("only on", "only on"),
            ("got: second line", "got: [secret]"),
            (r#"{"key": "quo\"ted!"}"#, r#"{"key": "[secret]"}"#),
        ];
        for (text, want) in table {
            assert_eq!(redactor.text(text), want);
        }
    }

    #[test]
    fn a_failed_step_tells_no_secret() {
        let failed =
            StepFailure::new(Code::Hook, "hook hunter2", "it said hunter2").with("hunter2", vec!["hunter2".into()]);
        let shown = format!("{:?}", redactor(&["hunter2"]).step_failure(failed));
        assert!(!shown.contains("hunter2") && shown.matches("[secret]").count() == 4, "{shown}");
    }

    #[test]
    fn what_is_published_tells_no_secret() {
        let (board, app) = (Board::new("boot".to_owned()), "mono".parse().unwrap());
        board.conceal(&app, redactor(&["hunter2"]));
        let text = || "with hunter2".to_owned();
        let phases = [
            Phase::Fetching { step: text() },
            Phase::Staging { step: text() },
            Phase::Activating { step: text() },
            Phase::Removing { step: text() },
            Phase::Reverting { cause: text() },
            Phase::Reverted { to: None, cause: text() },
            Phase::Failed { cause: text() },
            Phase::Gating { healthy_for_ms: 0, waiting_for: vec![text()] },
            Phase::Degraded { problems: vec![text()] },
        ];
        for phase in phases {
            board.app(&app, |status| {
                status.phase = phase.clone();
                let part = ("check".to_owned(), "api".to_owned());
                let part = PartStatus { kind: part.0, name: part.1, desired: text(), observed: text(), in_sync: false };
                status.parts = vec![part];
                status.failure = Some(Failure {
                    code: Code::Gate,
                    release: desired().release,
                    rollout: 1,
                    at_unix_ms: 0,
                    step: text(),
                    cause: text(),
                    evidence: vec![Evidence { title: text(), lines: vec![text()] }],
                });
            });
            let shown = format!("{:?}", board.subscribe().borrow());
            assert!(!shown.contains("hunter2") && shown.matches("with [secret]").count() == 7, "{shown}");
        }
    }
}
