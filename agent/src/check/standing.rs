//! Pure: how a check stands, from one answer to the next. One answer that is not as wanted is no news; so many in a row as its rules
//! say are. Beside `check`; `reconcile/checking` asks, and `reconcile/heal` restarts.

use std::time::Duration;

use super::Probed;

/// How many answers in a row change how a check stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// As wanted: it passes again.
    pub rise: u32,
    /// Not as wanted: it fails.
    pub fall: u32,
}

/// How one check stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// It passes.
    pub ok: bool,
    /// The last answer; while it passes the last one that was as wanted.
    pub answer: String,
    /// Not as wanted, in a row; since the last restart for it.
    pub failures: u32,
    /// As wanted, in a row, while it fails.
    pub passes: u32,
    /// How long the last answer took.
    pub took: Duration,
    /// When that was, unix ms on the host's clock.
    pub at_unix_ms: i64,
    /// Why what it would have restarted is left as it is.
    pub left: Option<String>,
}

impl Standing {
    /// After the first answer, which counts by itself. `starting`: failures do not count yet.
    #[must_use]
    pub fn first(probed: &Probed, rules: Rules, starting: bool, took: Duration, at_unix_ms: i64) -> Self {
        let failures = if probed.ok || starting { 0 } else { rules.fall };
        let (ok, answer) = (probed.ok || starting, probed.answer.clone());
        Self { ok, answer, failures, passes: 0, took, at_unix_ms, left: None }
    }

    /// After another answer.
    #[must_use]
    pub fn after(&self, probed: &Probed, rules: Rules, starting: bool, took: Duration, at_unix_ms: i64) -> Self {
        let failures = match (probed.ok, starting) {
            (true, _) => 0,
            (false, true) => self.failures,
            (false, false) => self.failures.saturating_add(1),
        };
        let passes = if probed.ok && !self.ok { self.passes.saturating_add(1) } else { 0 };
        let ok = if self.ok { failures < rules.fall } else { passes >= rules.rise };
        // An answer that does not count yet does not contradict how it stands.
        let answer = if probed.ok == ok { &probed.answer } else { &self.answer };
        let left = self.left.clone().filter(|_| !ok);
        Self { ok, answer: answer.clone(), failures, passes: if ok { 0 } else { passes }, took, at_unix_ms, left }
    }

    /// The last answer is to be confirmed soon, rather than in its time.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        if self.ok { self.failures > 0 } else { self.passes > 0 }
    }

    /// It fails, and has failed often enough since the last restart for another one.
    #[must_use]
    pub fn asks_for_restart(&self, rules: Rules) -> bool {
        !self.ok && self.failures >= rules.fall
    }

    /// What is said of it.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.left {
            Some(left) => format!("{}; {left}", self.answer),
            None => self.answer.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Answers in a row.
    use super::*;

    fn probed(ok: bool) -> Probed {
        Probed { ok, answer: if ok { "200 OK" } else { "500" }.into(), body: None }
    }

    /// How it stands after each answer: `+` and `-`, or `s` for one that is not as wanted while the app starts.
    fn course(rise: u32, fall: u32, answers: &str) -> String {
        let rules = Rules { rise, fall };
        let mut standing = Standing::first(&probed(true), rules, false, Duration::ZERO, 0);
        let said = answers.chars().map(|answer| {
            standing = standing.after(&probed(answer == '+'), rules, answer == 's', Duration::ZERO, 0);
            assert_eq!(standing.answer, if standing.ok { "200 OK" } else { "500" });
            if standing.ok { '+' } else { '-' }
        });
        said.collect()
    }

    #[test]
    fn so_many_in_a_row_as_the_rules_say_are_news() {
        for (rise, fall, answers, stands) in [
            (1, 2, "-+---+-", "+++--++"),
            (1, 1, "-+-", "-+-"),
            (3, 2, "--++-+++", "-------+".replacen('-', "+", 1).as_str()),
            (1, 3, "--+---", "+++++-"),
            (1, 2, "ss-s+s--", "+++++++-"),
            (1, 2, "--ss+", "+---+"),
        ] {
            assert_eq!(course(rise, fall, answers), stands, "{rise} {fall} {answers}");
        }
    }

    #[test]
    fn a_first_answer_counts_by_itself_unless_the_app_starts() {
        let rules = Rules { rise: 1, fall: 2 };
        let first = |ok, starting| Standing::first(&probed(ok), rules, starting, Duration::ZERO, 0);
        assert!(!first(false, false).ok && first(true, false).ok && first(false, true).ok);
        assert!(first(false, false).asks_for_restart(rules) && !first(false, true).asks_for_restart(rules));
        let doubt = first(true, false).after(&probed(false), rules, false, Duration::ZERO, 0);
        assert!(doubt.is_in_doubt() && !first(true, false).is_in_doubt());
    }

    #[test]
    fn after_a_restart_it_is_asked_anew_whether_it_fails() {
        let rules = Rules { rise: 1, fall: 2 };
        let down = Standing::first(&probed(false), rules, false, Duration::ZERO, 0);
        let mut standing = Standing { failures: 0, left: Some("left".into()), ..down };
        let mut asks = Vec::new();
        for _ in 0..2 {
            standing = standing.after(&probed(false), rules, false, Duration::ZERO, 0);
            asks.push(standing.asks_for_restart(rules));
        }
        assert_eq!((asks, standing.told().as_str()), (vec![false, true], "500; left"));
        let up = standing.after(&probed(true), rules, false, Duration::ZERO, 0);
        assert_eq!((up.ok, up.left), (true, None));
    }
}
