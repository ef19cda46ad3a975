//! Builds the agent from its parts and runs it: reconcile loop, link, watchdog, until systemd says stop.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use drover_exposition::{serve, web::Web};
use drover_proto::{event::EventKind, name::HostId};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    alert,
    blob::Blobs,
    config::{Config, MetricsConfig},
    desired::Desired,
    event,
    host::{
        docker::Engine,
        files,
        systemd::{Systemd, UnitTable},
        unpack,
    },
    identity::Identity,
    link::{Answered, Link},
    metrics::{Agent, Metrics},
    reconcile::{self, Handle, Reconciler},
    render::Layout,
    stock::Stock,
};

/// Held by the agent of this host, whatever its settings.
const HOST_LOCK: &str = "/run/drover-agent.host-lock";
/// Where `drover-agent status` finds what the running agent last saw.
const STATUS_FILE: &str = "status.json";

/// Runs until SIGTERM or SIGINT. An activation that is cut short is in the ledger, and the next start goes on with it.
pub async fn run(config: Config) -> anyhow::Result<()> {
    make_state_dir(&config.state_dir)?;
    let _locks = [lock(&config.state_dir.join("lock"))?, lock(Path::new(HOST_LOCK))?];
    let (identity, damaged) = Identity::open(&config.state_dir).context("cannot put a damaged identity aside")?;
    let desired =
        Desired::open(&config.state_dir, &own_ids(identity.as_ref())).context("cannot open the desired state")?;
    let (connection, connected) = watch::channel(None);
    let (layout, ports) = (Layout::from(&config), config.handover.ports.clone());
    let blobs = Blobs::open(&layout, connected.clone()).context("cannot make the blob directory")?;
    let systemd = Systemd::connect().await.context("cannot reach systemd over D-Bus")?;
    let (table, following) = UnitTable::start(systemd.clone());
    let (events, outbox, spooling) = event::open(&config.state_dir, config.events.max_bytes);
    // Before anything is said: what was spooled under another identity is not for this one.
    if let Some(identity) = identity {
        outbox.bind(identity.host).await;
    }
    let (stock, stock_damaged) = Stock::open(&config.state_dir).context("cannot read the list of drover's images")?;
    let events_of_link = events.clone();
    events.emit(None, EventKind::AgentStarted, concat!("drover-agent ", env!("CARGO_PKG_VERSION"), " has started"));
    damaged.into_iter().chain(stock_damaged).for_each(|said| events.emit(None, EventKind::StateSetAside, said));
    unpack::tell_confinement();
    let (handle, reconciler) = Reconciler::open(reconcile::Parts {
        layout,
        desired: desired.clone(),
        blobs,
        systemd,
        engine: Engine::default(),
        events,
        ports,
        stock,
        disk_budget: config.disk_budget,
    })
    .context("cannot read the ledgers")?;
    let web = Web::new(config.metrics.web_config.clone());
    let (alerts, alerting) = alert::open(&config.state_dir, handle.clone(), table.subscribe(), events_of_link.clone())
        .context("cannot read the alerts")?;
    let agent = Agent::new(connected, events_of_link.clone(), outbox.clone(), &config.state_dir);
    let link = Link {
        metrics: config.metrics.enabled.then(|| (config.metrics.listen, web.clone())),
        state_dir: config.state_dir.clone(),
        desired,
        reconcile: handle.clone(),
        connection,
        answered: Answered::default(),
        events: events_of_link,
        alerts,
        gauge: Arc::default(),
        outbox: outbox.clone(),
    };

    let mut tasks = JoinSet::new();
    tasks.spawn(spooling);
    tasks.spawn(following);
    let reconciling = tasks.spawn(reconciler.run());
    tasks.spawn(alerting);
    tasks.spawn(link.run());
    tasks.spawn(serve_metrics(config.metrics, web, handle.clone(), table, agent));
    tasks.spawn(keep_status_file(handle, config.state_dir.clone()));
    tasks.spawn(feed_watchdog());
    notify(&[NotifyState::Ready]);

    told_to_stop(&mut tasks).await?;
    notify(&[NotifyState::Stopping]);
    tracing::info!("agent stopping; workloads go on");
    // What ends now goes on at the next start: nothing is told any more that could be lost.
    reconciling.abort();
    outbox.close().await;
    tasks.shutdown().await;
    Ok(())
}

/// Until SIGTERM or SIGINT.
async fn told_to_stop(tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        // A part that ends is a fault: systemd starts the agent again, which is harmless to workloads.
        ended = tasks.join_next() => anyhow::bail!("a part of the agent ended: {ended:?}"),
    }
}

/// Makes the private state directory, 0700.
pub fn make_state_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// The host ids whose spec may lie on this host's disk; empty = nobody can say, since there is no identity to read.
fn own_ids(identity: Option<&Identity>) -> Vec<HostId> {
    identity.iter().flat_map(|identity| identity.goes_on_with.iter().chain([&identity.host])).cloned().collect()
}

/// Two agents on one host would undo each other's work, also with a state directory each. Only root may open the file:
/// whoever has it open, also for reading, can hold the lock.
fn lock(path: &Path) -> anyhow::Result<fs::File> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow);
    let file = options.open(path).with_context(|| format!("cannot make {}", path.display()))?;
    // One that was there already keeps the mode that it had.
    let private = file.set_permissions(fs::Permissions::from_mode(0o600));
    private.with_context(|| format!("cannot make {} private", path.display()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| anyhow::anyhow!("another drover-agent is running on this host: it holds {}", path.display()))?;
    Ok(file)
}

/// `drover-agent status`.
pub fn print_status(config: &Config) -> anyhow::Result<()> {
    match Identity::load(&config.state_dir) {
        Ok(Some(identity)) => println!("host {} ({}) of {}", identity.host_name, identity.host, identity.coordinator),
        Ok(None) => println!("not enrolled"),
        Err(error) => println!("{error:#}"),
    }
    match fs::read(config.state_dir.join(STATUS_FILE)) {
        // Set out here: the writer of every type of a report is in the program once.
        Ok(bytes) => match serde_json::from_slice::<serde_json::Value>(&bytes) {
            Ok(status) => println!("{status:#}"),
            Err(error) => anyhow::bail!("the agent's status cannot be read: {error}"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => println!("the agent has not reported yet"),
        Err(error) => return Err(error).context("cannot read the agent's status (root only)"),
    }
    Ok(())
}

/// Logs go to stderr, which journald stamps with its own time.
pub fn log_to_stderr(filter: &str) -> anyhow::Result<()> {
    let mut filter: Targets = filter.parse().context("log: not a level or filter")?;
    // What it says of its requests has the environment of containers in it.
    if filter.would_enable("bollard", &Level::DEBUG) {
        filter = filter.with_target("bollard", Level::INFO);
    }
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(layer.without_time().with_ansi(false)).init();
    } else {
        registry.with(layer).init();
    }
    Ok(())
}

async fn serve_metrics(config: MetricsConfig, web: Web, handle: Handle, table: UnitTable, agent: Agent) {
    if !config.enabled {
        return std::future::pending().await;
    }
    let (systemd, engine, status) = (handle.systemd().clone(), handle.engine().clone(), handle.status());
    let metrics = Metrics::new(Some((systemd, table)), engine, status, move || handle.standings(), agent);
    serve::serve(config.listen, Arc::new(metrics), web).await;
}

async fn keep_status_file(handle: Handle, state_dir: std::path::PathBuf) {
    let mut status = handle.status();
    status.mark_changed();
    while status.changed().await.is_ok() {
        let text = serde_json::to_vec(&**status.borrow_and_update()).unwrap_or_default();
        if let Err(error) = files::write_private(&state_dir.join(STATUS_FILE), &text) {
            tracing::warn!(%error, "cannot write the status file");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Tells systemd that the runtime still turns; without that it restarts the agent.
async fn feed_watchdog() {
    let Some(timeout) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut tick = tokio::time::interval(timeout / 3);
    loop {
        tick.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    // Without a service manager there is nobody to tell.
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

#[cfg(test)]
mod tests {
    //! Who can hold the agent's lock.
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_nobody_else_can_open_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let held = lock(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(lock(&path).unwrap_err().to_string().contains("another drover-agent is running"));
        drop(held);
        lock(&path).unwrap();
        let fresh = dir.path().join("fresh");
        let _held = lock(&fresh).unwrap();
        assert_eq!(fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
