//! Who is connected, and how to reach it: one live stream per host, a newer one replaces the older. Nothing here waits
//! for an agent; every channel is bounded.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::rand;
use drover_proto::{
    code::{self, Code},
    name::HostId,
    wire::{CancelJob, Job, JobReply, LogLine, ToAgent, job, job_reply::Reply, to_agent},
};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::events::Pace;

/// Orders (jobs, cancellations) that wait for an agent.
const ORDERS: usize = 64;
/// Answers that wait for who asked.
const ANSWERS: usize = 2048;
/// Jobs of one host at the same time.
const JOBS_PER_HOST: usize = 64;

/// The connected agents; clones share them.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    /// Before this (Unix ms) nobody could be connected.
    born_unix_ms: i64,
    /// The same.
    born: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: HashMap<HostId, Live>,
    /// Unix ms; and what no clock changes.
    lost: HashMap<HostId, (i64, Instant)>,
    /// Of what hosts say, over all their streams and calls, by their id; and of calls with a certificate, by its serial,
    /// which looks like no id. One that is whole again is as good as none.
    paces: HashMap<String, Pace>,
    /// Held by the stream of a host that is being greeted.
    greetings: HashMap<HostId, Arc<tokio::sync::Mutex<()>>>,
    count: u64,
}

struct Live {
    number: u64,
    protocol: u32,
    orders: mpsc::Sender<ToAgent>,
    spec_changed: Arc<Notify>,
    closed: CancellationToken,
    jobs: HashMap<String, Asker>,
}

struct Asker {
    answers: mpsc::Sender<Reply>,
    /// Lines that did not fit.
    left_out: u64,
}

/// A stream's own end of its registration.
pub struct Connection {
    /// Which stream of the host.
    pub number: u64,
    /// What is to be sent.
    pub orders: mpsc::Receiver<ToAgent>,
    /// The host's stored spec is another.
    pub spec_changed: Arc<Notify>,
    /// The stream must end: a newer one is there, or the host is not welcome any more.
    pub closed: CancellationToken,
}

/// Why a host cannot be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AskError {
    /// It has no stream.
    #[error("the host is not connected")]
    Offline,
    /// It has too much to do, or does not read.
    #[error("the host is busy with other jobs")]
    Busy,
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Random,
}

/// The answers to a job. Dropped before the end, the job is cancelled.
pub struct Answers {
    sessions: Sessions,
    host: HostId,
    job_id: String,
    answers: mpsc::Receiver<Reply>,
}

impl Answers {
    /// The next one; `None` when there are no more, also because the host was lost.
    pub async fn next(&mut self) -> Option<Reply> {
        self.answers.recv().await
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.sessions.cancel(&self.host, &self.job_id);
    }
}

impl Sessions {
    /// Nobody is connected.
    #[must_use]
    pub fn new(now_unix_ms: i64) -> Self {
        Self(Arc::new(Inner { born_unix_ms: now_unix_ms, born: Instant::now(), state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, so the state is whole in any case.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a stream on which this protocol is spoken; the host's older one, if any, ends.
    #[must_use]
    pub fn connect(&self, host: &HostId, protocol: u32) -> Connection {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let (spec_changed, closed) = (Arc::new(Notify::new()), CancellationToken::new());
        let mut state = self.state();
        state.count += 1;
        let number = state.count;
        let live = Live {
            number,
            protocol,
            orders,
            spec_changed: spec_changed.clone(),
            closed: closed.clone(),
            jobs: HashMap::new(),
        };
        if let Some(older) = state.live.insert(host.clone(), live) {
            older.closed.cancel();
        }
        Connection { number, orders: receiver, spec_changed, closed }
    }
    /// Ends a registration; `false` when a newer stream has taken its place.
    pub fn disconnect(&self, host: &HostId, number: u64, now_unix_ms: i64) -> bool {
        let mut state = self.state();
        if state.live.get(host).is_none_or(|live| live.number != number) {
            return false;
        }
        state.live.remove(host);
        state.lost.insert(host.clone(), (now_unix_ms, Instant::now()));
        true
    }
    /// Since when (Unix ms) a host is away; `None` when it is connected.
    #[must_use]
    pub fn away_since(&self, host: &HostId) -> Option<i64> {
        let state = self.state();
        if state.live.contains_key(host) {
            return None;
        }
        Some(state.lost.get(host).map_or(self.0.born_unix_ms, |(unix_ms, _)| *unix_ms))
    }
    /// The same, whatever the clock was set to since.
    #[must_use]
    pub fn away_from(&self, host: &HostId) -> Option<Instant> {
        let state = self.state();
        if state.live.contains_key(host) {
            return None;
        }
        Some(state.lost.get(host).map_or(self.0.born, |(_, at)| *at))
    }
    /// The hosts with a stream.
    #[must_use]
    pub fn connected(&self) -> BTreeSet<HostId> {
        self.state().live.keys().cloned().collect()
    }
    /// What is spoken with a host; `None` when it is not connected.
    #[must_use]
    pub fn protocol(&self, host: &HostId) -> Option<u32> {
        self.state().live.get(host).map(|live| live.protocol)
    }
    /// Has the newest spec sent, if the host is connected.
    pub fn spec_changed(&self, host: &HostId) {
        if let Some(live) = self.state().live.get(host) {
            live.spec_changed.notify_one();
        }
    }
    /// How long something that a host (or who has its certificate) said just now has to wait; `None`: it has said far too
    /// much.
    pub(super) fn pace(&self, who: &str, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        if let Some(pace) = state.paces.get_mut(who) {
            return pace.wait(now);
        }
        state.paces.retain(|_, pace| !pace.is_whole(now));
        state.paces.entry(who.to_owned()).or_insert_with(|| Pace::new(now)).wait(now)
    }
    /// Waits for as long as the host has been too quick. One that says more than could be waited for is turned away.
    pub async fn paced(&self, who: &str) -> Result<(), Status> {
        match self.pace(who, Instant::now()) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(code::status(Code::Limit, "the host says and asks more than it may: wait a little")),
        }
        Ok(())
    }
    /// What a stream of the host holds until it is up: one after the other.
    pub(super) fn greeting(&self, host: &HostId) -> Arc<tokio::sync::Mutex<()>> {
        self.state().greetings.entry(host.clone()).or_default().clone()
    }
    /// Ends a host's stream and its jobs: it was removed or revoked.
    pub fn close(&self, host: &HostId) {
        let mut state = self.state();
        state.greetings.remove(host);
        if let Some(live) = state.live.get_mut(host) {
            live.closed.cancel();
            live.jobs.clear();
        }
    }

    /// Asks a host. `ttl_ms`: the agent refuses the job when it has waited for longer.
    pub fn ask(&self, host: &HostId, question: job::Job, ttl_ms: u64) -> Result<Answers, AskError> {
        let mut random = [0; 16];
        rand::fill(&mut random).map_err(|_| AskError::Random)?;
        let job_id = hex::encode(random);
        let (sender, answers) = mpsc::channel(ANSWERS);
        let mut state = self.state();
        let live = state.live.get_mut(host).ok_or(AskError::Offline)?;
        if live.jobs.len() >= JOBS_PER_HOST {
            return Err(AskError::Busy);
        }
        let job = Job { job_id: job_id.clone(), ttl_ms, job: Some(question) };
        live.orders.try_send(ToAgent { message: Some(to_agent::Message::Job(job)) }).map_err(|_| AskError::Busy)?;
        live.jobs.insert(job_id.clone(), Asker { answers: sender, left_out: 0 });
        drop(state);
        Ok(Answers { sessions: self.clone(), host: host.clone(), job_id, answers })
    }
    /// Hands a host's answer to who asked. A reader that is too slow misses log lines, and is told how many.
    pub fn answer(&self, host: &HostId, number: u64, reply: JobReply) {
        let mut state = self.state();
        let Some(live) = state.live.get_mut(host).filter(|live| live.number == number) else { return };
        let (job_id, Some(reply)) = (reply.job_id, reply.reply) else { return };
        // Nobody waits for it any more: it was cancelled a moment ago.
        let Some(asker) = live.jobs.get_mut(&job_id) else { return };
        if let Reply::LogLine(line) = &reply
            && asker.left_out > 0
        {
            let text = format!("[drover: {} lines left out: they came faster than they were read]", asker.left_out);
            let note = LogLine { unit: line.unit.clone(), unix_ms: line.unix_ms, text, host: String::new() };
            if asker.answers.try_send(Reply::LogLine(note)).is_ok() {
                asker.left_out = 0;
            }
        }
        let last = !matches!(reply, Reply::LogLine(_));
        let sent = asker.answers.try_send(reply).is_ok();
        if last {
            // With the sender gone, the reader sees the end, even if the last answer did not fit.
            live.jobs.remove(&job_id);
        } else if !sent {
            asker.left_out += 1;
        }
    }

    fn cancel(&self, host: &HostId, job_id: &str) {
        let mut state = self.state();
        let Some(live) = state.live.get_mut(host) else { return };
        if live.jobs.remove(job_id).is_none() {
            return;
        }
        let cancel = CancelJob { job_id: job_id.to_owned() };
        if live.orders.try_send(ToAgent { message: Some(to_agent::Message::CancelJob(cancel)) }).is_err() {
            tracing::debug!(%host, job_id, "a job could not be cancelled: the agent does not read");
        }
    }
}

#[cfg(test)]
mod tests {
    //! One stream per host, and jobs that end.
    use drover_proto::wire::{JobDone, LogsJob};

    use super::*;

    fn host() -> HostId {
        "h-0000000000000001".parse().unwrap()
    }

    fn logs() -> job::Job {
        job::Job::Logs(LogsJob { app: "mono".to_owned(), follow: false, lines: 1 })
    }

    #[tokio::test]
    async fn a_newer_stream_replaces_the_older() {
        let sessions = Sessions::new(5);
        assert_eq!(sessions.away_since(&host()), Some(5));
        let first = sessions.connect(&host(), 2);
        let second = sessions.connect(&host(), 2);
        assert!(first.closed.is_cancelled() && !second.closed.is_cancelled());
        assert!(!sessions.disconnect(&host(), first.number, 7), "the older one's end is not the host's");
        assert_eq!(sessions.away_since(&host()), None);
        assert!(sessions.disconnect(&host(), second.number, 8));
        assert_eq!(sessions.away_since(&host()), Some(8));
    }

    #[tokio::test]
    async fn a_new_stream_is_not_a_new_beginning_for_a_host_that_floods() {
        let (sessions, now) = (Sessions::new(0), Instant::now());
        let other = "h-0000000000000002";
        while sessions.pace(host().as_str(), now).is_some() {}
        let again = sessions.connect(&host(), 2);
        sessions.disconnect(&host(), again.number, 1);
        assert_eq!(sessions.pace(host().as_str(), now), None);
        assert_eq!(sessions.pace(other, now), Some(Duration::ZERO));
        assert_eq!(sessions.state().paces.len(), 2);
        let later = now + Duration::from_secs(60);
        assert_eq!(sessions.pace("0a", later), Some(Duration::ZERO));
        assert_eq!(sessions.state().paces.len(), 1, "whoever is quiet, or was removed, is remembered");
    }

    #[tokio::test]
    async fn a_job_is_asked_answered_and_over() {
        let sessions = Sessions::new(0);
        assert_eq!(sessions.ask(&host(), logs(), 1).err(), Some(AskError::Offline));
        let mut connection = sessions.connect(&host(), 2);
        let mut answers = sessions.ask(&host(), logs(), 1).unwrap();
        let Some(to_agent::Message::Job(job)) = connection.orders.recv().await.unwrap().message else { panic!() };
        let reply = |reply| JobReply { job_id: job.job_id.clone(), reply: Some(reply) };
        let line = LogLine { unit: "a".to_owned(), unix_ms: 1, text: "x".to_owned(), host: String::new() };
        sessions.answer(&host(), connection.number, reply(Reply::LogLine(line.clone())));
        sessions.answer(&host(), connection.number, reply(Reply::Done(JobDone {})));
        assert_eq!(answers.next().await, Some(Reply::LogLine(line)));
        assert_eq!(answers.next().await, Some(Reply::Done(JobDone {})));
        assert_eq!(answers.next().await, None);
    }

    #[tokio::test]
    async fn a_job_that_nobody_waits_for_is_cancelled() {
        let sessions = Sessions::new(0);
        let mut connection = sessions.connect(&host(), 2);
        drop(sessions.ask(&host(), logs(), 1).unwrap());
        connection.orders.recv().await.unwrap();
        let order = connection.orders.recv().await.unwrap();
        assert!(matches!(order.message, Some(to_agent::Message::CancelJob(_))));
    }

    #[tokio::test]
    async fn a_lost_host_ends_its_jobs() {
        let sessions = Sessions::new(0);
        let connection = sessions.connect(&host(), 2);
        let mut answers = sessions.ask(&host(), logs(), 1).unwrap();
        sessions.disconnect(&host(), connection.number, 1);
        assert_eq!(answers.next().await, None);
    }
}
