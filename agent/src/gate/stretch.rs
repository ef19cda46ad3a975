//! Pure: continuous health. Looks come in with their time; a problem, or another process than at the beginning, starts
//! the stretch again. Beside `gate`.

use std::collections::BTreeMap;

/// How bad a problem is; the worst one ever seen explains a failure best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Not ready yet.
    Waiting,
    /// A check, or a file, is not as it should be.
    Wrong,
    /// A process ended.
    Broken,
}

/// One thing that is not healthy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Of which unit, check or file.
    pub of: String,
    /// One sentence.
    pub sentence: String,
}

/// What one look saw.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Look {
    /// Empty = all is well.
    pub problems: Vec<Problem>,
    /// By unit or check: which process, how many failures so far. Another value starts the stretch again.
    pub identity: BTreeMap<String, String>,
}

/// The current stretch of health.
pub struct Stretch {
    min_ms: u64,
    since_ms: Option<u64>,
    identity: BTreeMap<String, String>,
    last: Option<Look>,
    worst: Option<Problem>,
}

/// What a look leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Healthy for long enough.
    Healthy,
    /// Go on looking.
    Going {
        /// Without a break, so far.
        healthy_for_ms: u64,
        /// What is not healthy.
        waiting_for: Vec<String>,
    },
}

impl Stretch {
    /// `min_ms` without a break are wanted.
    #[must_use]
    pub fn new(min_ms: u64) -> Self {
        Self { min_ms, since_ms: None, identity: BTreeMap::new(), last: None, worst: None }
    }

    /// Takes the look at `now_ms`, counted on one monotonic clock.
    pub fn see(&mut self, now_ms: u64, mut look: Look) -> Verdict {
        if self.since_ms.is_some() && look.problems.is_empty() && look.identity != self.identity {
            for (of, now) in &look.identity {
                if self.identity.get(of).is_some_and(|before| before != now) {
                    self.remember(&Problem {
                        severity: Severity::Broken,
                        of: of.clone(),
                        sentence: format!("{of} was started again, or failed, between two looks"),
                    });
                }
            }
            self.since_ms = None;
        }
        for problem in &look.problems {
            self.remember(problem);
        }
        let verdict = if look.problems.is_empty() {
            let since = *self.since_ms.get_or_insert(now_ms);
            self.identity = std::mem::take(&mut look.identity);
            match now_ms.saturating_sub(since) {
                healthy if healthy >= self.min_ms => Verdict::Healthy,
                healthy_for_ms => Verdict::Going { healthy_for_ms, waiting_for: Vec::new() },
            }
        } else {
            self.since_ms = None;
            let waiting_for = look.problems.iter().map(|problem| problem.sentence.clone()).collect();
            Verdict::Going { healthy_for_ms: 0, waiting_for }
        };
        self.last = Some(look);
        verdict
    }

    fn remember(&mut self, problem: &Problem) {
        let worse = self.worst.as_ref().is_none_or(|worst| problem.severity >= worst.severity);
        if worse {
            self.worst = Some(problem.clone());
        }
    }

    /// The problem that explains best why there was no health for long enough: a process that ended, else what is wrong
    /// now, else what was wrong last.
    #[must_use]
    pub fn cause(&self) -> Option<Problem> {
        if let Some(worst) = self.worst.as_ref().filter(|worst| worst.severity == Severity::Broken) {
            return Some(worst.clone());
        }
        // Not `max_by_key`: of several equally bad ones the first.
        let now = self.last.iter().flat_map(|look| &look.problems);
        let worst_now = now.reduce(|worst, problem| if problem.severity > worst.severity { problem } else { worst });
        worst_now.or(self.worst.as_ref()).cloned()
    }
}
