//! What an operator sees of the figures of hosts: now, and of the last day. Part of `view`.

use serde::{Deserialize, Serialize};

use crate::name::{HostId, HostName};

/// The figures of a host at one time. Shares are of 100. Absent: not known.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct FiguresView {
    /// Not idle, of all cores.
    pub cpu: f64,
    /// Not available.
    pub memory: f64,
    /// Of what there is.
    pub swap: f64,
    /// Of the fullest file system.
    pub disk: f64,
    /// Of 1 minute, not per core.
    pub load1: f64,
    /// Bytes per second, received.
    pub received: f64,
    /// Bytes per second, sent.
    pub sent: f64,
    /// Bytes per second.
    pub disk_read: f64,
    /// Bytes per second.
    pub disk_written: f64,
    /// Share of time in which something waited for a CPU.
    pub pressure_cpu: f64,
    /// … for memory.
    pub pressure_memory: f64,
    /// … for disks.
    pub pressure_io: f64,
}

/// The last hours of a host, oldest first.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HistoryView {
    /// Which.
    pub host: HostName,
    /// From one point to the next.
    pub step_ms: u64,
    /// Points that nothing is known of are left out.
    pub points: Vec<HistoryPoint>,
}

/// What was in one step of time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// When it begins, by the coordinator's clock.
    pub unix_ms: i64,
    /// On average.
    pub mean: FiguresView,
    /// At most.
    pub max: FiguresView,
}

/// `drover top`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct TopView {
    /// By name.
    pub hosts: Vec<TopRow>,
}

/// A line of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TopRow {
    /// Which.
    pub host: HostName,
    /// Its id.
    pub id: HostId,
    /// Whether its stream is up.
    pub connected: bool,
    /// How many cores it has; 0 = not known.
    pub cores: u32,
    /// Its memory; 0 = not known.
    pub memory_bytes: u64,
    /// Since its boot; 0 = not known.
    pub uptime_s: u64,
    /// As it last told them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<FiguresView>,
    /// When that was, by the coordinator's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_unix_ms: Option<i64>,
    /// Alerts that fire there.
    pub firing: usize,
    /// Apps that are not healthy there.
    pub unhealthy: usize,
}
