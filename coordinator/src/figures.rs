//! What hosts are doing, as they tell it every ten seconds: the newest of each, and the last day in steps of five minutes.
//!
//! `session` brings what a host told, checked. Here it becomes points, which go to the store once a minute, for all hosts in one
//! write; so a crash takes a minute along at most. `rpc/operator` and `metrics` read it. In memory a host has 3 KB, in
//! the store 30 KB (`store/figures`): a thousand of them 3 MB and 30 MB. Times are the coordinator's.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_proto::{name::HostId, view::FiguresView};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    clock,
    store::{Result, Store},
};

/// From one point to the next.
pub const STEP_MS: i64 = 300_000;
/// For so long they are kept.
pub const KEPT_MS: i64 = 86_400_000;
/// Numbers of a reading.
pub const COUNT: usize = 12;
/// Between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// Writes between two looks for what is too old.
const SWEEP_EACH: u32 = 60;

/// What a host told.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Told {
    /// Within their ranges.
    pub figures: FiguresView,
    /// 0 = not known.
    pub cores: u32,
    /// 0 = not known.
    pub memory_bytes: u64,
    /// Since its boot.
    pub uptime_s: u64,
    /// By its own clock, as it told this.
    pub host_unix_ms: i64,
}

/// The last that a host told, and when.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Newest {
    /// What.
    pub told: Told,
    /// Unix ms.
    pub at_ms: i64,
}

/// What was in one step of time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// When the step begins, Unix ms.
    pub at_ms: i64,
    /// Of how many readings it is made.
    pub readings: u32,
    /// In the order of `FiguresView`.
    pub mean: [f64; COUNT],
    /// In the same order.
    pub max: [f64; COUNT],
}

impl Point {
    fn of(figures: &FiguresView, now_ms: i64) -> Self {
        let numbers = numbers(figures);
        Self { at_ms: now_ms.div_euclid(STEP_MS) * STEP_MS, readings: 1, mean: numbers, max: numbers }
    }

    /// Makes one of two that are of the same step.
    pub fn merge(&mut self, other: &Self) {
        let (ours, theirs) = (f64::from(self.readings), f64::from(other.readings));
        for (mean, other) in self.mean.iter_mut().zip(other.mean) {
            *mean = (*mean * ours + other * theirs) / (ours + theirs).max(1.0);
        }
        for (max, other) in self.max.iter_mut().zip(other.max) {
            *max = max.max(other);
        }
        self.readings = self.readings.saturating_add(other.readings);
    }
}

/// All hosts; clones share them.
#[derive(Clone, Default)]
pub struct Figures(Arc<Mutex<HashMap<HostId, OfHost>>>);

struct OfHost {
    newest: Newest,
    /// Of the newest, if it was told on the stream that is there now.
    skew_ms: Option<i64>,
    /// Not in the store yet, by their beginning.
    points: BTreeMap<i64, Point>,
}

impl Figures {
    fn hosts(&self) -> MutexGuard<'_, HashMap<HostId, OfHost>> {
        // Nothing panics while it holds the lock, so the state is whole in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a host told just now.
    pub fn take(&self, host: &HostId, told: Told, now_ms: i64) {
        let newest = Newest { told, at_ms: now_ms };
        let point = Point::of(&told.figures, now_ms);
        let mut hosts = self.hosts();
        let of_host =
            hosts.entry(host.clone()).or_insert_with(|| OfHost { newest, skew_ms: None, points: BTreeMap::new() });
        of_host.newest = newest;
        // What a message takes on its way counts as behind.
        of_host.skew_ms = Some(told.host_unix_ms.saturating_sub(now_ms));
        of_host.points.entry(point.at_ms).and_modify(|known| known.merge(&point)).or_insert(point);
    }
    /// The last that a host told since this coordinator started.
    #[must_use]
    pub fn newest(&self, host: &HostId) -> Option<Newest> {
        self.hosts().get(host).map(|of_host| of_host.newest)
    }
    /// A host has come back: its clock may have been set while it was away.
    pub fn connected(&self, host: &HostId) {
        if let Some(of_host) = self.hosts().get_mut(host) {
            of_host.skew_ms = None;
        }
    }
    /// By how many ms a host's clock is ahead of this one, as it told since it has been connected.
    #[must_use]
    pub fn skew_ms(&self, host: &HostId) -> Option<i64> {
        self.hosts().get(host).and_then(|of_host| of_host.skew_ms)
    }
    /// A host was removed or revoked: what it told is of no use.
    pub fn forget(&self, host: &HostId) {
        self.hosts().remove(host);
    }

    /// The points of a host since then, oldest first, also those that are not stored yet.
    pub async fn history(&self, store: &Store, host: &HostId, since_ms: i64) -> Result<Vec<Point>> {
        let stored = store.points(host, since_ms).await?;
        // After those that are stored, so that none is counted twice: one that goes there in between is missing for once.
        let waiting = self.hosts().get(host).map(|of_host| of_host.points.clone()).unwrap_or_default();
        let mut all: BTreeMap<i64, Point> = stored.into_iter().map(|point| (point.at_ms, point)).collect();
        for (at_ms, point) in waiting.range(since_ms..) {
            all.entry(*at_ms).and_modify(|known| known.merge(point)).or_insert(*point);
        }
        Ok(all.into_values().collect())
    }

    /// Writes every minute, until `stop`.
    pub async fn keep(self, store: Store, stop: CancellationToken) {
        let mut tick = interval_at(Instant::now() + WRITE_EVERY, WRITE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for count in 0_u32.. {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            self.write(&store).await;
            if count % SWEEP_EACH == 0
                && let Err(error) = store.sweep_points(clock::unix_ms() - KEPT_MS).await
            {
                error!(%error, source = std::error::Error::source(&error).map(ToString::to_string), "store");
            }
        }
    }

    /// Writes what is not stored yet; what cannot be stays for the next time.
    pub async fn write(&self, store: &Store) {
        let mut due = BTreeMap::new();
        for (host, of_host) in self.hosts().iter_mut().filter(|(_, of_host)| !of_host.points.is_empty()) {
            due.insert(host.clone(), std::mem::take(&mut of_host.points).into_values().collect::<Vec<_>>());
        }
        if due.is_empty() {
            return;
        }
        match store.add_points(&due).await {
            Ok(gone) => gone.iter().for_each(|host| self.forget(host)),
            Err(error) => {
                error!(%error, source = std::error::Error::source(&error).map(ToString::to_string), "store");
                self.give_back(due, clock::unix_ms());
            }
        }
    }

    /// A store that fails for a day does not fill the memory.
    fn give_back(&self, due: BTreeMap<HostId, Vec<Point>>, now_ms: i64) {
        let mut hosts = self.hosts();
        for (host, points) in due {
            let Some(of_host) = hosts.get_mut(&host) else { continue };
            for point in points.into_iter().filter(|point| point.at_ms > now_ms - KEPT_MS) {
                of_host.points.entry(point.at_ms).and_modify(|known| known.merge(&point)).or_insert(point);
            }
        }
    }
}

fn numbers(figures: &FiguresView) -> [f64; COUNT] {
    let FiguresView {
        cpu,
        memory,
        swap,
        disk,
        load1,
        received,
        sent,
        disk_read,
        disk_written,
        pressure_cpu,
        pressure_memory,
        pressure_io,
    } = *figures;
    [
        cpu,
        memory,
        swap,
        disk,
        load1,
        received,
        sent,
        disk_read,
        disk_written,
        pressure_cpu,
        pressure_memory,
        pressure_io,
    ]
}

/// The other way round.
#[must_use]
pub fn figures(numbers: &[f64; COUNT]) -> FiguresView {
    let [
        cpu,
        memory,
        swap,
        disk,
        load1,
        received,
        sent,
        disk_read,
        disk_written,
        pressure_cpu,
        pressure_memory,
        pressure_io,
    ] = *numbers;
    FiguresView {
        cpu,
        memory,
        swap,
        disk,
        load1,
        received,
        sent,
        disk_read,
        disk_written,
        pressure_cpu,
        pressure_memory,
        pressure_io,
    }
}

#[cfg(test)]
mod tests {
    //! From what is told to what is kept, over a restart and a store that fails.
    use super::*;
    use crate::store::tests::{enrolled, temporary};

    fn told(cpu: f64) -> Told {
        let figures = FiguresView { cpu, load1: 1.0, pressure_io: 3.0, ..FiguresView::default() };
        Told { figures, cores: 2, memory_bytes: 1 << 30, uptime_s: 60, host_unix_ms: 1_500 }
    }

    #[test]
    fn order_is_the_same_both_ways() {
        let numbers: [f64; COUNT] = std::array::from_fn(|index| index as f64);
        assert_eq!(super::numbers(&figures(&numbers)), numbers);
    }

    #[tokio::test]
    async fn a_day_goes_on_after_a_restart() {
        let t = temporary().await;
        let host = enrolled(&t.store).await;
        let (before, after) = (Figures::default(), Figures::default());
        before.take(&host, told(10.0), STEP_MS + 1);
        before.take(&host, told(30.0), STEP_MS + 2);
        assert_eq!(before.skew_ms(&host), Some(1_500 - STEP_MS - 2));
        before.connected(&host);
        assert_eq!(before.skew_ms(&host), None, "it may be another by now");
        before.write(&t.store).await;
        before.write(&t.store).await;
        assert_eq!(before.history(&t.store, &host, 0).await.unwrap()[0].readings, 2, "nothing is written twice");

        after.take(&host, told(80.0), STEP_MS + 3);
        after.take(&host, told(5.0), 2 * STEP_MS);
        let points = after.history(&t.store, &host, 0).await.unwrap();
        let seen: Vec<_> = points.iter().map(|p| (p.at_ms, p.readings, p.mean[0], p.max[0])).collect();
        assert_eq!(seen, [(STEP_MS, 3, 40.0, 80.0), (2 * STEP_MS, 1, 5.0, 5.0)]);
        after.write(&t.store).await;
        assert_eq!(after.history(&t.store, &host, 0).await.unwrap(), points, "stored or not is the same");
        assert_eq!(after.history(&t.store, &host, STEP_MS + 1).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_store_that_fails_loses_nothing_and_a_removed_host_is_forgotten() {
        let t = temporary().await;
        let host = enrolled(&t.store).await;
        let figures = Figures::default();
        let now = clock::unix_ms();
        figures.take(&host, told(10.0), now);
        let broken = temporary().await;
        broken.store.close().await;
        figures.write(&broken.store).await;
        assert_eq!(figures.history(&t.store, &host, 0).await.unwrap().len(), 1);
        t.store.remove_host(&host, "ada", 9).await.unwrap();
        figures.write(&t.store).await;
        assert_eq!(figures.newest(&host), None);
    }
}
