//! How a test waits: not for a time, but until something holds, and with the last reason when it never does.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// The pause between the first two looks. Each is a third longer than the one before: what is soon there is soon seen, and
/// what takes its time is not held up by being looked at.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// What a probe may return: `bool`, `Option<T>` or `Result<T, E>`.
pub trait Verdict {
    /// What [`eventually`] returns once the probe is content.
    type Value;

    /// The value, or why not yet.
    fn verdict(self) -> Result<Self::Value, String>;
}

impl Verdict for bool {
    type Value = ();

    fn verdict(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("it is false".into()) }
    }
}

impl<T> Verdict for Option<T> {
    type Value = T;

    fn verdict(self) -> Result<T, String> {
        self.ok_or_else(|| "there is none".into())
    }
}

impl<T, E: Display> Verdict for Result<T, E> {
    type Value = T;

    fn verdict(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Asks `probe` again and again until it is content, and returns its value.
///
/// Panics after `timeout` with `what` was awaited and why the last look was not good enough.
#[track_caller]
pub fn eventually<V: Verdict>(what: &str, timeout: Duration, mut probe: impl FnMut() -> V) -> V::Value {
    let start = Instant::now();
    let (mut looks, mut pause) = (0, PAUSE);
    loop {
        let why = match probe().verdict() {
            Ok(value) => return value,
            Err(why) => why,
        };
        looks += 1;
        if start.elapsed() >= timeout {
            panic!("not within {timeout:?} ({looks} looks): {what}\nlast: {why}");
        }
        std::thread::sleep(pause);
        pause = LONGEST_PAUSE.min(pause * 4 / 3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_value_of_the_first_content_look() {
        let mut looks = 0;
        let value = eventually("three looks", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(value, 3);
    }

    #[test]
    #[should_panic(expected = "the moon is full\nlast: half of it")]
    fn says_what_was_awaited_and_the_last_reason() {
        eventually("the moon is full", Duration::from_millis(1), || Err::<(), _>("half of it"));
    }
}
