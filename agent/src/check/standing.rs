//! Pure: how a check stands, from one answer to the next. One answer that is not as wanted is no news; two in a row are. Beside
//! `check`; `reconcile/checking` asks.

use std::time::Duration;

use super::Probed;

/// So many answers in a row that are not as wanted make a check fail.
const FALL: u32 = 2;

/// How one check stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// It passes.
    pub ok: bool,
    /// The last answer; while it passes the last one that was as wanted.
    pub answer: String,
    /// In a row.
    pub failures: u32,
    /// How long the last answer took.
    pub took: Duration,
    /// When that was, unix ms on the host's clock.
    pub at_unix_ms: i64,
}

impl Standing {
    /// After the first answer, which counts by itself.
    #[must_use]
    pub fn first(probed: &Probed, took: Duration, at_unix_ms: i64) -> Self {
        let failures = if probed.ok { 0 } else { FALL };
        Self { ok: probed.ok, answer: probed.answer.clone(), failures, took, at_unix_ms }
    }

    /// After another answer.
    #[must_use]
    pub fn after(&self, probed: &Probed, took: Duration, at_unix_ms: i64) -> Self {
        let failures = if probed.ok { 0 } else { self.failures.saturating_add(1) };
        let ok = failures < FALL && (probed.ok || self.ok);
        // A failure that does not count yet does not contradict that it passes.
        let answer = if probed.ok == ok { &probed.answer } else { &self.answer };
        Self { ok, answer: answer.clone(), failures, took, at_unix_ms }
    }

    /// The last answer is to be confirmed soon, rather than in its time.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.ok && self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    //! Answers in a row.
    use super::*;

    #[test]
    fn one_bad_answer_is_no_news_and_two_are() {
        let good = Probed { ok: true, answer: "200 OK".into(), body: None };
        let bad = Probed { ok: false, answer: "500".into(), body: None };
        let mut standing = Standing::first(&good, Duration::ZERO, 0);
        let mut said = Vec::new();
        for probed in [&good, &bad, &good, &bad, &bad, &bad, &good, &bad] {
            standing = standing.after(probed, Duration::ZERO, 0);
            said.push((standing.ok, standing.answer.clone()));
        }
        let row = |ok, answer: &str| (ok, answer.to_owned());
        assert_eq!(
            said,
            [
                row(true, "200 OK"),
                row(true, "200 OK"),
                row(true, "200 OK"),
                row(true, "200 OK"),
                row(false, "500"),
                row(false, "500"),
                row(true, "200 OK"),
                row(true, "200 OK"),
            ]
        );
        assert!(!Standing::first(&bad, Duration::ZERO, 0).ok, "the first answer is all that is known");
    }
}
