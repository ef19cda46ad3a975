//! Pure: how often something may be tried again by itself. An attempt at once, then with growing pauses; when all are
//! spent it is left, until the window has passed since the last one. `upkeep` keeps the attempts, `reconcile` draws.

use std::time::Duration;

use drover_proto::app::RestartBudget;
use serde::{Deserialize, Serialize};

/// No pause between two attempts is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Within `window`; 0 = never.
    pub attempts: u32,
    /// When so much has passed since the last attempt, it begins anew.
    pub window: Duration,
    /// Before the second attempt; doubled before each further one.
    pub backoff: Duration,
}

/// For putting right what somebody or something keeps changing.
pub const REPAIRS: Budget = Budget { attempts: 5, window: Duration::from_secs(600), backoff: Duration::from_secs(10) };

impl From<RestartBudget> for Budget {
    fn from(budget: RestartBudget) -> Self {
        Self { attempts: budget.attempts, window: budget.window.as_duration(), backoff: budget.backoff.as_duration() }
    }
}

/// The attempts so far, in unix ms, oldest first. Durable: an agent that is started again does not begin anew.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Attempts(Vec<i64>);

/// Whether one more may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowance {
    /// Now: the so-maniest, from 1.
    Now(u32),
    /// Not before this unix ms.
    NotBefore(i64),
    /// All are spent, until this unix ms; `i64::MAX` = it allows none.
    SpentUntil(i64),
}

impl Attempts {
    /// Asks at `now` (unix ms).
    pub fn ask(&mut self, budget: &Budget, now: i64) -> Allowance {
        // A clock that was put back must not make anybody wait for what was the future.
        self.0.iter_mut().for_each(|at| *at = (*at).min(now));
        let made = self.of_this_window(budget, now);
        let last = made.last().copied().unwrap_or(i64::MIN);
        let number = u32::try_from(made.len()).unwrap_or(u32::MAX);
        if number >= budget.attempts {
            let until = last.saturating_add(ms(budget.window));
            return Allowance::SpentUntil(if made.is_empty() { i64::MAX } else { until });
        }
        let pause = match number.checked_sub(1) {
            None => 0,
            Some(doublings) => {
                let doubled =
                    ms(budget.backoff).saturating_mul(1_i64.checked_shl(doublings.min(32)).unwrap_or(i64::MAX));
                doubled.min(ms(LONGEST_PAUSE))
            }
        };
        match last.saturating_add(pause) {
            due if number > 0 && due > now => Allowance::NotBefore(due),
            _ => Allowance::Now(number.saturating_add(1)),
        }
    }

    /// An attempt is made at `now` (unix ms).
    pub fn draw(&mut self, budget: &Budget, now: i64) {
        self.0 = self.of_this_window(budget, now).to_vec();
        self.0.push(now);
    }

    /// All, or none when the window has passed since the last.
    fn of_this_window(&self, budget: &Budget, now: i64) -> &[i64] {
        match self.0.last() {
            Some(last) if now.saturating_sub(*last) < ms(budget.window) => &self.0,
            _ => &[],
        }
    }
}

fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    //! Five attempts in ten minutes, ten seconds after the first.
    use super::*;
    use Allowance::{NotBefore, Now, SpentUntil};

    #[test]
    fn attempts_come_slower_until_they_are_spent() {
        let mut attempts = Attempts::default();
        let mut at = 1_000_000;
        for (number, pause) in [(1, 0), (2, 10_000), (3, 20_000), (4, 40_000), (5, 80_000)] {
            if pause > 0 {
                assert_eq!(attempts.ask(&REPAIRS, at + pause - 1), NotBefore(at + pause), "attempt {number}");
            }
            at += pause;
            assert_eq!(attempts.ask(&REPAIRS, at), Now(number));
            attempts.draw(&REPAIRS, at);
        }
        assert_eq!(attempts.ask(&REPAIRS, at + 599_999), SpentUntil(at + 600_000));
        assert_eq!(attempts.ask(&REPAIRS, at + 600_000), Now(1));
        attempts.draw(&REPAIRS, at + 600_000);
        assert_eq!(attempts, Attempts(vec![at + 600_000]), "what no longer counts is forgotten");
    }

    #[test]
    fn odd_budgets_and_clocks_do_no_harm() {
        let none = Budget { attempts: 0, ..REPAIRS };
        assert_eq!(Attempts::default().ask(&none, 5), SpentUntil(i64::MAX));
        let long =
            Budget { attempts: 100, window: Duration::from_secs(1 << 40), backoff: Duration::from_secs(1 << 30) };
        let mut attempts = Attempts::default();
        for _ in 0..99 {
            attempts.draw(&long, 0);
        }
        assert_eq!(attempts.ask(&long, 1), NotBefore(300_000), "no pause is longer than five minutes");
        // The clock was a day ahead and was put right.
        let mut attempts = Attempts::default();
        attempts.draw(&REPAIRS, 86_400_000);
        assert_eq!(attempts.ask(&REPAIRS, 0), NotBefore(10_000));
        assert_eq!(attempts.ask(&REPAIRS, 10_000), Now(2));
        attempts.draw(&REPAIRS, 10_000);
        assert_eq!(attempts.ask(&REPAIRS, 30_000), Now(3), "and the pauses are those of the right clock");
    }
}
