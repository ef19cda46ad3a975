//! What the host is doing just now, every ten seconds, as long as there is a stream: `session` sends it. Read by
//! `metrics/figures`, beside everything else: a disk that does not answer keeps no message waiting.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    gauge: Option<Gauge>,
    looking: Option<JoinHandle<(Gauge, Option<Reading>)>>,
    due: Instant,
}

impl Default for Ticker {
    fn default() -> Self {
        Self { gauge: None, looking: None, due: Instant::now() }
    }
}

impl Ticker {
    /// The next figures, when they are due. Given up and asked again, it goes on where it was.
    pub(super) async fn next(&mut self) -> Figures {
        loop {
            let Some(looking) = &mut self.looking else {
                sleep_until(self.due).await;
                let mut gauge = self.gauge.take().unwrap_or_default();
                self.looking = Some(tokio::task::spawn_blocking(move || {
                    let reading = gauge.look(std::time::Instant::now());
                    (gauge, reading)
                }));
                continue;
            };
            let looked = looking.await;
            self.looking = None;
            let reading = looked.ok().and_then(|(gauge, reading)| {
                self.gauge = Some(gauge);
                reading
            });
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
