//! systemd, over the system bus. Start, stop and the like wait for the job that they make, not only for the answer.
//! `observe` reads units, `exec` changes them, `check` looks at one. `bus` keeps the connection, `job` waits for jobs,
//! `table` has all units at any time.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use drover_proto::{app::Signal, name::UnitName};
use zbus::{Message, OwnedObjectPath, OwnedVariant, Structure, Variant};

use super::files;
use bus::Bus;
pub use list::ListedUnit;
pub use signals::UnitSignals;
pub use table::{UnitTable, Units};

mod bus;
mod job;
mod list;
mod signals;
mod table;

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";

/// A unit as systemd sees it. Texts are systemd's own words; empty where a kind of unit has no such thing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UnitState {
    /// `loaded`, `not-found`, `bad-setting`, `error`, `masked` …
    pub load_state: String,
    /// `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`.
    pub active_state: String,
    /// `running`, `exited`, `dead`, `auto-restart` …
    pub sub_state: String,
    /// `enabled`, `disabled`, `static`, `masked` …
    pub unit_file_state: String,
    /// Path of its file.
    pub fragment_path: String,
    /// Paths of the files that add to it.
    pub drop_ins: Vec<String>,
    /// A service's `Type=`.
    pub unit_type: String,
    /// 0 = none.
    pub main_pid: u32,
    /// 32 hex digits, new with every start; empty = not started.
    pub invocation_id: String,
    /// Automatic restarts since it was last started by hand.
    pub n_restarts: u32,
    /// `success`, `exit-code`, `signal`, `timeout`, `protocol`, `start-limit-hit` …
    pub result: String,
    /// How the main process ended: 1 exited, 2 killed, 3 dumped core; 0 not yet.
    pub exec_main_code: i32,
    /// Its exit code or signal.
    pub exec_main_status: i32,
    /// Its file has changed since systemd read it.
    pub need_daemon_reload: bool,
    /// `RemainAfterExit=`.
    pub remain_after_exit: bool,
    /// When the main process was started, unix time in µs; 0 = never.
    pub exec_main_start_us: u64,
    /// When it ended, unix time in µs; 0 = not yet.
    pub exec_main_exit_us: u64,
    /// When the unit last became active, unix time in µs; 0 = never.
    pub active_enter_us: u64,
    /// `TimeoutStartSec=`, in µs; `u64::MAX` = none.
    pub timeout_start_us: u64,
    /// Of a timer: when it elapses next by the calendar, unix time in µs; 0 or `u64::MAX` = not by the calendar.
    pub next_elapse_us: u64,
    /// Of a timer: when it elapses next by the time since boot, in µs since then; 0 or `u64::MAX` = not by that.
    pub next_elapse_boot_us: u64,
    /// Of a timer: when it elapsed last, unix time in µs; 0 = never.
    pub last_trigger_us: u64,
    /// Of a timer: the unit that it starts.
    pub triggers: String,
    /// systemd is about to change it: a job is queued or runs.
    pub has_job: bool,
}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobResult {
    /// As asked.
    Done,
    /// The unit failed (or does not support what was asked).
    Failed,
    /// A unit that it needs failed.
    Dependency,
    /// The job's own time ran out (`JobTimeoutSec=`).
    Timeout,
    /// Another job took its place.
    Canceled,
    /// A condition of the unit did not hold.
    Skipped,
    /// Our time ran out; the job goes on.
    StillRunning,
}

impl JobResult {
    fn from_systemd(word: &str) -> Self {
        match word {
            "done" => Self::Done,
            "dependency" => Self::Dependency,
            "timeout" => Self::Timeout,
            "canceled" | "collected" => Self::Canceled,
            "skipped" => Self::Skipped,
            _ => Self::Failed,
        }
    }
}

/// Why systemd did not do or say something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SystemdError {
    /// It said no.
    #[error("systemd refused {what}: {why}")]
    Refused {
        /// What was asked, e.g. `StartUnit mono.service`.
        what: String,
        /// In its own words.
        why: String,
    },
    /// It could not be spoken to.
    #[error("systemd cannot be reached over D-Bus: {0}")]
    Bus(zbus::Error),
}

/// systemd of one host. Cheap to clone; connects when first needed and again after the bus was lost.
#[derive(Clone)]
pub struct Systemd {
    bus: Arc<Bus>,
}

impl Systemd {
    /// This host's, reached once to see that it is there.
    pub async fn connect() -> Result<Self, SystemdError> {
        let systemd = Self { bus: Arc::new(Bus::new(None)) };
        drop(systemd.bus.connection().await?);
        Ok(systemd)
    }
    /// The one behind another bus, e.g. `unix:path=/run/dbus/system_bus_socket`; not spoken to yet.
    #[cfg(test)]
    #[must_use]
    pub fn connect_to(address: &str) -> Self {
        Self { bus: Arc::new(Bus::new(Some(address.to_owned()))) }
    }

    /// A unit's state; for one that does not exist `load_state` is `not-found`.
    pub async fn unit(&self, unit: &UnitName) -> Result<UnitState, SystemdError> {
        let what = format!("LoadUnit {unit}");
        let answer = self.bus.call(&what, MANAGER_PATH, MANAGER, "LoadUnit", &(unit.as_str())).await?;
        let path: OwnedObjectPath = body(&answer)?;
        let mut state = UnitState::default();
        read_unit(&mut state, self.properties(&what, &path, "Unit").await?);
        if let Some(kind) = interface_of(unit)
            && state.load_state != "not-found"
        {
            read_kind(&mut state, self.properties(&what, &path, kind).await?);
        }
        Ok(state)
    }

    async fn properties(&self, what: &str, path: &OwnedObjectPath, of: &str) -> Result<Properties, SystemdError> {
        let interface = format!("org.freedesktop.systemd1.{of}");
        let properties = "org.freedesktop.DBus.Properties";
        body(&self.bus.call(what, path.as_str(), properties, "GetAll", &(interface.as_str())).await?)
    }

    /// Makes systemd read its unit files again.
    pub async fn daemon_reload(&self) -> Result<(), SystemdError> {
        self.bus.call("Reload", MANAGER_PATH, MANAGER, "Reload", &()).await.map(drop)
    }
    /// Starts a unit; an active one stays as it is.
    pub async fn start(&self, unit: &UnitName, timeout: Duration) -> Result<JobResult, SystemdError> {
        self.job("StartUnit", unit, timeout).await
    }
    /// Asks for a start and does not wait for its end. What starts it is forgotten to have failed first.
    pub async fn start_soon(&self, unit: &UnitName) -> Result<(), SystemdError> {
        self.reset_failed(unit).await?;
        let what = format!("StartUnit {unit}");
        self.bus.call(&what, MANAGER_PATH, MANAGER, "StartUnit", &(unit.as_str(), "replace")).await.map(drop)
    }
    /// Asks for a restart and does not wait for its end. That it failed before, and how often it was started, is forgotten.
    pub async fn restart_soon(&self, unit: &UnitName) -> Result<(), SystemdError> {
        self.reset_failed(unit).await?;
        let what = format!("RestartUnit {unit}");
        self.bus.call(&what, MANAGER_PATH, MANAGER, "RestartUnit", &(unit.as_str(), "replace")).await.map(drop)
    }
    /// Sends a signal to the main process of a unit.
    pub async fn signal(&self, unit: &UnitName, signal: Signal) -> Result<(), SystemdError> {
        let (what, arguments) = (format!("KillUnit {unit}"), (unit.as_str(), "main", signal.number()));
        self.bus.call(&what, MANAGER_PATH, MANAGER, "KillUnit", &arguments).await.map(drop)
    }
    /// Whether the host is going down: whatever stops now shall stop.
    pub async fn is_going_down(&self) -> Result<bool, SystemdError> {
        let arguments = (MANAGER, "SystemState");
        let answer = self.bus.call("SystemState", MANAGER_PATH, "org.freedesktop.DBus.Properties", "Get", &arguments);
        let state: OwnedVariant = body(&answer.await?)?;
        Ok(String::try_from(state).is_ok_and(|state| state == "stopping"))
    }
    /// Takes a mask away, wherever it is. systemd reads its files again.
    pub async fn unmask(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let what = format!("UnmaskUnitFiles {unit}");
        for runtime in [false, true] {
            let arguments = (vec![unit.as_str()], runtime);
            self.bus.call(&what, MANAGER_PATH, MANAGER, "UnmaskUnitFiles", &arguments).await?;
        }
        self.daemon_reload().await
    }
    /// Stops a unit; an inactive one stays as it is, one that does not exist is refused.
    pub async fn stop(&self, unit: &UnitName, timeout: Duration) -> Result<JobResult, SystemdError> {
        self.job("StopUnit", unit, timeout).await
    }
    /// Restarts a unit, or starts it.
    pub async fn restart(&self, unit: &UnitName, timeout: Duration) -> Result<JobResult, SystemdError> {
        self.job("RestartUnit", unit, timeout).await
    }
    /// Reloads a unit if it can reload, else restarts it; starts it if it is not running.
    pub async fn reload_or_restart(&self, unit: &UnitName, timeout: Duration) -> Result<JobResult, SystemdError> {
        self.job("ReloadOrRestartUnit", unit, timeout).await
    }

    /// Enables a unit at boot; `false`: its file has no `[Install]`, so there was nothing to do. To be followed by a `daemon_reload`.
    pub async fn enable(&self, unit: &UnitName) -> Result<bool, SystemdError> {
        let what = format!("EnableUnitFiles {unit}");
        let arguments = (vec![unit.as_str()], false, false);
        let answer = self.bus.call(&what, MANAGER_PATH, MANAGER, "EnableUnitFiles", &arguments).await?;
        let (installable, changes): (bool, Vec<Change>) = body(&answer)?;
        make_durable(&changes);
        Ok(installable)
    }
    /// Takes a unit out of the boot. systemd reads its files again: until then it says that the unit is enabled, also when the
    /// file is gone, and an agent that was killed in between would want to disable what is not there.
    pub async fn disable(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let what = format!("DisableUnitFiles {unit}");
        let arguments = (vec![unit.as_str()], false);
        let answer = self.bus.call(&what, MANAGER_PATH, MANAGER, "DisableUnitFiles", &arguments).await?;
        make_durable(&body::<Vec<Change>>(&answer)?);
        self.daemon_reload().await
    }
    /// Forgets that a unit failed, and how often it was started; one that is not loaded has nothing to forget.
    pub async fn reset_failed(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let what = format!("ResetFailedUnit {unit}");
        match self.bus.call(&what, MANAGER_PATH, MANAGER, "ResetFailedUnit", &(unit.as_str())).await {
            Err(SystemdError::Refused { why, .. }) if why.contains("not loaded") => Ok(()),
            answer => answer.map(drop),
        }
    }
}

/// What systemd did to make a unit (not) start at boot: `symlink` or `unlink`, the link, where it leads.
type Change = (String, String, String);

/// systemd does not sync the links that it makes and removes: a power cut soon after would undo them.
fn make_durable(changes: &[Change]) {
    let directories = changes.iter().flat_map(|(_, link, _)| Path::new(link).ancestors().skip(1).take(2));
    for directory in directories.collect::<BTreeSet<_>>().into_iter().filter(|directory| directory.is_dir()) {
        if let Err(error) = files::sync_directory(directory) {
            tracing::warn!(%error, directory = %directory.display(), "a power cut may undo what was enabled here");
        }
    }
}

type Properties = HashMap<String, OwnedVariant>;

fn body<T: serde::de::DeserializeOwned + zbus::Type>(message: &Message) -> Result<T, SystemdError> {
    message.body().deserialize().map_err(SystemdError::Bus)
}

/// The D-Bus interface with what only this kind of unit has.
fn interface_of(unit: &UnitName) -> Option<&'static str> {
    match unit.as_str().rsplit_once('.')?.1 {
        "service" => Some("Service"),
        "socket" => Some("Socket"),
        "timer" => Some("Timer"),
        "path" => Some("Path"),
        "mount" => Some("Mount"),
        "swap" => Some("Swap"),
        _ => None,
    }
}

/// Takes a property out; one that is missing (older systemd) or of another type leaves the default.
fn take<T: TryFrom<OwnedVariant>>(properties: &mut Properties, name: &str, into: &mut T) {
    if let Some(value) = properties.remove(name).and_then(|value| T::try_from(value).ok()) {
        *into = value;
    }
}

fn read_unit(state: &mut UnitState, mut properties: Properties) {
    let from = &mut properties;
    take(from, "LoadState", &mut state.load_state);
    take(from, "ActiveState", &mut state.active_state);
    take(from, "SubState", &mut state.sub_state);
    take(from, "UnitFileState", &mut state.unit_file_state);
    take(from, "FragmentPath", &mut state.fragment_path);
    take(from, "DropInPaths", &mut state.drop_ins);
    take(from, "NeedDaemonReload", &mut state.need_daemon_reload);
    take(from, "ActiveEnterTimestamp", &mut state.active_enter_us);
    state.has_job = from.remove("Job").and_then(|job| Structure::try_from(job).ok()).is_some_and(|job| {
        // Number and path; 0 = none.
        matches!(job.fields().first(), Some(Variant::U32(id)) if *id != 0)
    });
    let mut id: Vec<u8> = Vec::new();
    take(from, "InvocationID", &mut id);
    state.invocation_id = id.iter().map(|byte| format!("{byte:02x}")).collect();
}

fn read_kind(state: &mut UnitState, mut properties: Properties) {
    let from = &mut properties;
    take(from, "Type", &mut state.unit_type);
    take(from, "MainPID", &mut state.main_pid);
    take(from, "NRestarts", &mut state.n_restarts);
    take(from, "Result", &mut state.result);
    take(from, "ExecMainCode", &mut state.exec_main_code);
    take(from, "ExecMainStatus", &mut state.exec_main_status);
    take(from, "RemainAfterExit", &mut state.remain_after_exit);
    take(from, "ExecMainStartTimestamp", &mut state.exec_main_start_us);
    take(from, "ExecMainExitTimestamp", &mut state.exec_main_exit_us);
    take(from, "TimeoutStartUSec", &mut state.timeout_start_us);
    take(from, "NextElapseUSecRealtime", &mut state.next_elapse_us);
    take(from, "NextElapseUSecMonotonic", &mut state.next_elapse_boot_us);
    take(from, "LastTriggerUSec", &mut state.last_trigger_us);
    take(from, "Unit", &mut state.triggers);
}
