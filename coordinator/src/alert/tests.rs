//! The engine with a real store and real web servers. Time stands still but for what a test lets pass, in which nothing that is
//! done with sockets and files takes any.

mod clocks;
mod ends;
mod held;
mod many;
mod moves;
mod outage;
mod receiver;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    time::Duration,
};

use drover_proto::{
    alert::{AlertStatus, Severity},
    name::HostId,
    status::HostStatus,
};
use tokio_util::sync::CancellationToken;

use super::{Alerting, Alerts, book::status};
use crate::{
    clock::{self, Clock},
    session::{HostEvent, Sessions},
    store::{
        Again, Attempt, GroupChange, NewHost, NewNotification, NewToken,
        tests::{Temporary, temporary},
    },
};
use receiver::{Mode, Receiver};

/// How far time goes at once; further where much of it passes.
const STEP: Duration = Duration::from_millis(500);
const LONG_STEP: Duration = Duration::from_secs(5);

/// Ends with the test.
struct Time {
    _held: mpsc::Sender<()>,
}

impl Time {
    /// Time does not pass by itself from here on: not even when there is nothing to do, since a thread of the runtime is busy.
    fn stop() -> Self {
        tokio::time::pause();
        let (held, until) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || until.recv());
        Self { _held: held }
    }

    async fn passes(&self, span: Duration) {
        let step = if span > Duration::from_secs(300) { LONG_STEP } else { STEP };
        let end = tokio::time::Instant::now() + span;
        while tokio::time::Instant::now() < end {
            tokio::time::advance(step.min(end - tokio::time::Instant::now())).await;
            settle(4).await;
        }
    }

    /// Lets time pass until something is so.
    async fn until(&self, what: impl AsyncFn() -> bool) {
        for _ in 0..2000 {
            if what().await {
                return;
            }
            self.passes(STEP / 5).await;
        }
        panic!("it never was");
    }
}

impl Drop for Time {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}

/// Real time for sockets and the store.
async fn settle(ms: u64) {
    tokio::task::spawn_blocking(move || std::thread::sleep(Duration::from_millis(ms))).await.unwrap();
}

struct World {
    time: Time,
    kept: Temporary,
    sessions: Sessions,
    /// What the coordinator takes for the time: it goes with that of the test.
    wall: Clock,
    /// By how much it was set, ms.
    set: Arc<AtomicI64>,
    alerts: Alerts,
    stop: CancellationToken,
    hosts: Vec<HostId>,
}

impl World {
    /// With so many hosts, all of them connected.
    async fn new(hosts: usize, settings: &str) -> Self {
        drover_proto::tls::install();
        let kept = temporary().await;
        let labels = BTreeMap::new();
        let token = NewToken { id: "t1", secret: b"correct", labels: &labels, uses: 10_000, expires_ms: i64::MAX };
        kept.store.create_token(token, "ada", 1).await.unwrap();
        let sessions = Sessions::new(clock::unix_ms());
        let mut ids = Vec::new();
        for number in 1..=hosts {
            let new = NewHost {
                id: format!("h-{number:016x}").parse().unwrap(),
                name: format!("web-{number}").parse().unwrap(),
                agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                serial: format!("{number:02x}"),
                not_after_ms: i64::MAX,
            };
            ids.push(kept.store.enroll_host("t1", b"correct", new, 2).await.unwrap().id);
            kept.store.set_hello(&ids[number - 1], env!("CARGO_PKG_VERSION"), "", 3).await.unwrap();
            drop(sessions.connect(&ids[number - 1], 5));
        }
        let stop = CancellationToken::new();
        let time = Time::stop();
        let set = Arc::new(AtomicI64::new(0));
        let (began, began_ms) = (tokio::time::Instant::now(), clock::unix_ms());
        let by = set.clone();
        let wall: Clock = Arc::new(move || {
            began_ms + by.load(Ordering::Relaxed) + i64::try_from(began.elapsed().as_millis()).unwrap()
        });
        let alerts = start(&kept, &sessions, settings, &wall, &stop).await;
        Self { time, kept, sessions, wall, set, alerts, stop, hosts: ids }
    }

    fn now_ms(&self) -> i64 {
        (self.wall)()
    }

    /// The coordinator stops and starts again.
    async fn starts_again(&mut self, settings: &str) {
        self.stop.cancel();
        self.alerts.ended().await;
        self.stop = CancellationToken::new();
        self.alerts = start(&self.kept, &self.sessions, settings, &self.wall, &self.stop).await;
    }

    /// A host reports these.
    fn says(&self, host: usize, alerts: Vec<AlertStatus>) {
        let status = HostStatus { alerts, ..HostStatus::default() };
        self.alerts.heard(&HostEvent::Report(self.hosts[host].clone(), status.into()));
    }

    /// The coordinator's clock is set.
    fn is_set_by(&self, ms: i64) {
        self.set.fetch_add(ms, Ordering::Relaxed);
    }

    /// A host is lost.
    fn goes(&self, host: usize) {
        let stream = u64::try_from(host).unwrap() + 1;
        assert!(self.sessions.disconnect(&self.hosts[host], stream, self.now_ms()));
    }

    async fn waiting(&self) -> u64 {
        self.kept.store.notifications_waiting().await.unwrap().values().sum()
    }
}

async fn start(
    kept: &Temporary,
    sessions: &Sessions,
    settings: &str,
    wall: &Clock,
    stop: &CancellationToken,
) -> Alerts {
    let (store, skew) = (kept.store.clone(), Box::new(|_: &HostId| None));
    Alerts::start(store, sessions.clone(), read(settings), skew, wall.clone(), stop.clone()).await.unwrap()
}

/// Settings, as they are read from the file.
fn read(settings: &str) -> Alerting {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alerting.toml");
    std::fs::write(&path, settings).unwrap();
    Alerting::read(&path).unwrap()
}

/// One webhook that is told of everything.
fn hook(receiver: &Receiver, keys: &str) -> String {
    format!("[notifiers.hook]\ntype = \"webhook\"\nurl = \"{}\"\n{keys}", receiver.url)
}

/// A disk that is full.
fn full(path: &str) -> AlertStatus {
    status("disk", path, Severity::Critical)
}
