//! What the host is doing just now, every ten seconds, as long as there is a stream: `session` sends it. Read by
//! `metrics/figures`, beside everything else: a disk that does not answer keeps no message waiting.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use drover_proto::wire::Figures;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::metrics::figures::{Gauge, Reading};

/// From one to the next.
const EVERY: Duration = Duration::from_secs(10);
/// From the first look, by which rates begin, to the first figures.
const FIRST: Duration = Duration::from_secs(1);

/// When the next figures are due, and what is needed for them.
pub(super) struct Ticker {
    gauge: Arc<Mutex<Gauge>>,
    looking: Option<JoinHandle<Option<Reading>>>,
    /// Rates go from the first look of this stream on.
    has_begun: bool,
    due: Instant,
}

impl Ticker {
    /// With a gauge that outlives streams: one that waits for a file system keeps its thread.
    pub(super) fn new(gauge: Arc<Mutex<Gauge>>) -> Self {
        Self { gauge, looking: None, has_begun: false, due: Instant::now() }
    }

    /// The next figures, when they are due. Given up and asked again, it goes on where it was.
    pub(super) async fn next(&mut self) -> Figures {
        loop {
            let Some(looking) = &mut self.looking else {
                sleep_until(self.due).await;
                let gauge = self.gauge.clone();
                self.looking = Some(tokio::task::spawn_blocking(move || {
                    gauge.lock().unwrap_or_else(PoisonError::into_inner).look(std::time::Instant::now())
                }));
                continue;
            };
            let looked = looking.await;
            self.looking = None;
            let reading = looked.ok().flatten().filter(|_| self.has_begun);
            self.has_begun = true;
            self.due = Instant::now() + if reading.is_some() { EVERY } else { FIRST };
            if let Some(reading) = reading {
                return figures(&reading);
            }
        }
    }
}

fn figures(reading: &Reading) -> Figures {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Figures {
        unix_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        cpu: reading.cpu,
        memory: reading.memory,
        swap: reading.swap,
        disk: reading.disk,
        load1: reading.load1,
        cores: reading.cores,
        received: reading.received,
        sent: reading.sent,
        disk_read: reading.disk_read,
        disk_written: reading.disk_written,
        pressure_cpu: reading.pressure_cpu,
        pressure_memory: reading.pressure_memory,
        pressure_io: reading.pressure_io,
        memory_bytes: reading.memory_bytes,
        uptime_s: reading.uptime_s,
    }
}
