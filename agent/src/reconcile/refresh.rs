//! Looks at what is committed and says whether it still is as it should be. It only tells; nothing is changed. Beside
//! `reconcile`.

use std::{collections::BTreeMap, time::Duration};

use drover_proto::{name::CheckName, spec::DesiredApp, status::Phase};

use super::{Reconciler, Work};
use crate::{
    check,
    ledger::AppLedger,
    observe::observe,
    render::{Rendered, render},
    report,
};

/// A check that fails is asked once more after this: one sample is no news.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Reconciler {
    /// Every app of which something is committed.
    pub(super) async fn refresh_all(&self) {
        let facts = self.shared.facts();
        for (app, ledger) in self.shared.all() {
            let Some(current) = ledger.current.clone() else { continue };
            let work = Work { shared: &self.shared, specs: self.specs.clone(), app, facts: facts.clone(), ledger };
            work.conceal();
            work.refresh(&current).await;
        }
    }
}

impl Work<'_> {
    /// Compares what is there with the committed release `current`.
    pub(super) async fn refresh(&self, current: &DesiredApp) {
        let layout = &self.shared.parts.layout;
        let rendered = match render(current, &self.facts, layout) {
            Ok(rendered) => rendered,
            Err(error) => return self.degrade(vec![error.to_string()]),
        };
        let observed = match observe(Some(&rendered), &self.ledger, layout, &self.shared.parts.systemd).await {
            Ok(observed) => observed,
            Err(error) => return tracing::warn!(app = %self.app, %error, "cannot look"),
        };
        let parts = report::parts(&rendered, &observed, &self.answers(&rendered).await);
        let problems = report::problems(&parts);
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
        let systemd = &self.shared.parts.systemd;
        let mut answers = BTreeMap::new();
        for (name, wanted) in &rendered.checks {
            let mut probed = check::probe(wanted, systemd).await;
            if !probed.ok {
                tokio::time::sleep(ASK_AGAIN).await;
                probed = check::probe(wanted, systemd).await;
            }
            answers.insert(name.clone(), (probed.ok, probed.answer));
        }
        answers
    }
}
