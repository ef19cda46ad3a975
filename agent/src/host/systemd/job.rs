//! Jobs of systemd, waited for to their ends: by the signal that says so, or, when bus or systemd went away meanwhile and
//! the signal is lost, by looking whether the job is still there. Under `systemd`.

use std::{num::NonZeroUsize, time::Duration};

use drover_proto::name::UnitName;
use futures_util::StreamExt as _;
use tokio::time::Instant;
use zbus::{MatchRule, Message, MessageStream, OwnedObjectPath, message::Type, names::UniqueName};

use super::{JobResult, MANAGER, MANAGER_PATH, Systemd, SystemdError, UnitState, body, bus};

/// Signals waiting for us while many units change at once; beyond it the bus connection would stall.
const MAX_QUEUED_SIGNALS: usize = 4096;
/// So long without the signal, and the job is looked for.
const LOOK_AFTER: Duration = Duration::from_secs(2);
/// A job that is gone has sent its signal: it is given so long to be read.
const LAST_WORD: Duration = Duration::from_millis(300);

/// A job that systemd has taken.
struct Asked {
    removed: MessageStream,
    answer: Message,
    job: OwnedObjectPath,
}

impl Systemd {
    /// Asks for a job and waits for its end. Asked twice when nobody knows whether the first time was heard.
    pub(super) async fn job(
        &self,
        method: &'static str,
        unit: &UnitName,
        timeout: Duration,
    ) -> Result<JobResult, SystemdError> {
        let deadline = Instant::now() + timeout;
        let mut left = bus::CALLS_MORE;
        let mut asked = loop {
            match self.ask(method, unit).await {
                Err(error) if left > 0 && bus::is_lost(&error) && Instant::now() < deadline => {
                    tracing::warn!(%unit, method, %error, "asked again");
                }
                asked => break asked?,
            }
            left -= 1;
            tokio::time::sleep(LAST_WORD).await;
        };
        let mut patience = LOOK_AFTER;
        loop {
            let look = deadline.min(Instant::now() + patience);
            match tokio::time::timeout_at(look, asked.removed.next()).await {
                Ok(Some(Ok(signal))) => {
                    if let Some(result) = ended(&signal, asked.answer.header().sender(), &asked.job) {
                        return Ok(result);
                    }
                }
                Ok(Some(Err(_)) | None) => break,
                Err(_) if Instant::now() >= deadline => return Ok(JobResult::StillRunning),
                Err(_) if patience == LAST_WORD => break,
                Err(_) if self.is_there(&asked.job).await? => {}
                Err(_) => patience = LAST_WORD,
            }
        }
        tracing::warn!(%unit, method, "the end of its job was not heard; its state says how it went");
        while self.is_there(&asked.job).await? {
            if Instant::now() >= deadline {
                return Ok(JobResult::StillRunning);
            }
            tokio::time::sleep(LAST_WORD).await;
        }
        Ok(judge(method, &self.unit(unit).await?))
    }

    /// The signals are listened for before the job exists, or its end could be missed.
    async fn ask(&self, method: &'static str, unit: &UnitName) -> Result<Asked, SystemdError> {
        let connection = self.bus.connection().await?;
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(bus::DESTINATION)
            .path(MANAGER_PATH)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()
            .map_err(SystemdError::Bus)?;
        let queued = NonZeroUsize::new(MAX_QUEUED_SIGNALS);
        let removed = MessageStream::for_match_rule(rule, &connection, queued).await.map_err(SystemdError::Bus)?;
        let what = format!("{method} {unit}");
        let answer = bus::call(&connection, &what, MANAGER_PATH, MANAGER, method, &(unit.as_str(), "replace")).await?;
        let job = body(&answer)?;
        Ok(Asked { removed, answer, job })
    }

    /// Whether systemd still has the job. Its path is not used again while this systemd runs, executed anew or not.
    async fn is_there(&self, job: &OwnedObjectPath) -> Result<bool, SystemdError> {
        let get = ("org.freedesktop.systemd1.Job", "Id");
        let answer =
            self.bus.call("the id of a job", job.as_str(), "org.freedesktop.DBus.Properties", "Get", &get).await;
        match answer {
            Ok(_) => Ok(true),
            Err(SystemdError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// How a job that is over went, by the state that it left.
fn judge(method: &str, unit: &UnitState) -> JobResult {
    let up = matches!(unit.active_state.as_str(), "active" | "reloading" | "refreshing");
    let over = unit.active_state == "inactive" && unit.result == "success";
    let done = match method {
        "StopUnit" => !up && unit.active_state != "deactivating",
        _ => up || (over && unit.unit_type == "oneshot"),
    };
    if done { JobResult::Done } else { JobResult::Failed }
}

/// How the job ended, if `signal` says so. Anyone on the bus can send a signal with this name, so that only the word of
/// the one who took our job (`systemd`, a unique name) counts; what cannot be read is somebody else's.
fn ended(signal: &Message, systemd: Option<&UniqueName<'_>>, job: &OwnedObjectPath) -> Option<JobResult> {
    if systemd.is_none() || signal.header().sender() != systemd {
        return None;
    }
    let (_, ended, _, result): (u32, OwnedObjectPath, String, String) = body(signal).ok()?;
    (ended == *job).then(|| JobResult::from_systemd(&result))
}

#[cfg(test)]
mod tests {
    //! Whose word counts. Jobs of a real systemd are the lab's.
    use super::*;

    #[test]
    fn a_job_whose_end_was_not_heard_is_judged_by_what_it_left() {
        let state = |active: &str, result: &str, kind: &str| UnitState {
            active_state: active.to_owned(),
            result: result.to_owned(),
            unit_type: kind.to_owned(),
            ..UnitState::default()
        };
        let table = [
            ("StartUnit", state("active", "success", "notify"), JobResult::Done),
            ("RestartUnit", state("activating", "exit-code", "simple"), JobResult::Failed),
            ("RestartUnit", state("failed", "exit-code", "simple"), JobResult::Failed),
            ("StartUnit", state("inactive", "success", "simple"), JobResult::Failed),
            ("StartUnit", state("inactive", "success", "oneshot"), JobResult::Done),
            ("StopUnit", state("inactive", "success", "simple"), JobResult::Done),
            ("StopUnit", state("failed", "signal", "simple"), JobResult::Done),
            ("StopUnit", state("active", "success", "simple"), JobResult::Failed),
        ];
        for (method, unit, result) in table {
            assert_eq!(judge(method, &unit), result, "{method} {unit:?}");
        }
    }

    fn signal(from: &str, job: &str) -> Message {
        let builder = Message::signal(MANAGER_PATH, MANAGER, "JobRemoved").sender(from);
        builder.build(&(7_u32, OwnedObjectPath::try_from(job).unwrap(), "x.service", "done")).unwrap()
    }

    #[test]
    fn only_the_one_who_took_the_job_says_how_it_ended() {
        let (systemd, job) = (UniqueName::try_from(":1.1").unwrap(), "/org/freedesktop/systemd1/job/7");
        let ours = OwnedObjectPath::try_from(job).unwrap();
        let ended = |signal: &Message| ended(signal, Some(&systemd), &ours);
        assert_eq!(ended(&signal(":1.1", job)), Some(JobResult::Done));
        assert_eq!(ended(&signal(":1.666", job)), None);
        assert_eq!(ended(&signal(":1.1", "/org/freedesktop/systemd1/job/8")), None);
        let unreadable = Message::signal(MANAGER_PATH, MANAGER, "JobRemoved").sender(":1.1");
        assert_eq!(ended(&unreadable.build(&("nonsense",)).unwrap()), None);
        assert_eq!(super::ended(&signal(":1.1", job), None, &ours), None);
    }
}
