//! Builds the coordinator from its parts and runs it until systemd says stop. Whoever knows this file knows what exists.

use std::{
    fs,
    io::{self, IsTerminal as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use drover_exposition::{serve, web::Web};
use drover_proto::limits::{KEEPALIVE_INTERVAL_MS, KEEPALIVE_TIMEOUT_MS};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    alert::{Alerting, Alerts},
    blob::Blobs,
    ca::{Ca, rollover},
    config::{Config, MetricsConfig, StateDir},
    listen,
    metrics::Metrics,
    rpc::Services,
    store::{Store, Upgrade},
    vault::Vault,
};

/// Calls and streams that one connection may have open.
const MAX_STREAMS_PER_CONNECTION: u32 = 128;
/// All headers of one call: ours have some 300 bytes.
const MAX_HEADERS_BYTES: u32 = 16 << 10;
/// Streams that a peer opened and reset before anybody looked; one more ends the connection.
const MAX_PENDING_RESETS: usize = 20;
/// Streams that this side had to reset for a peer's faults; one more ends the connection.
const MAX_ERROR_RESETS: usize = 128;
/// What a peer may send ahead of what is read, on one stream and on one connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// For calls under way when the coordinator stops; then they are cut off.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// What the parts share.
#[derive(Clone)]
pub struct App {
    /// Everything durable but artifacts.
    pub store: Store,
    /// Artifacts.
    pub blobs: Blobs,
    /// Signs certificates.
    pub ca: Arc<Ca>,
    /// Cancelled when the coordinator stops: streams end then.
    pub stop: CancellationToken,
}

impl App {
    /// Opens what is in the state directory; what is missing in a new one is made.
    pub async fn open(dir: &StateDir, certificate_life: Duration) -> anyhow::Result<Self> {
        let started_before = dir.database().exists();
        let lost = |what: &str| {
            format!("the store is there, but {what} is missing: restore a backup (drover-coordinator restore FILE)")
        };
        ensure!(!dir.restoring().exists(), "a restore was interrupted: run it again with --force");
        let ca = if rollover::exists(dir) {
            rollover::open(dir)?
        } else {
            ensure!(!started_before, lost("its CA"));
            Ca::create(&dir.ca())?
        };
        let vault = if dir.secret_key().exists() {
            Vault::load(&dir.secret_key())?
        } else {
            ensure!(!started_before, lost("its secret key"));
            Vault::create(&dir.secret_key())?
        };
        let store = Store::open(&dir.database(), vault, Upgrade::Migrate).await?;
        let blobs = Blobs::open(&dir.blobs())?;
        Ok(Self { store, blobs, ca: Arc::new(ca.with_client_life(certificate_life)), stop: CancellationToken::new() })
    }
}

/// Runs until SIGTERM or SIGINT. Rollouts under way are in the store, and the next start goes on with them.
pub async fn run(config: Config) -> anyhow::Result<()> {
    make_state_dir(&config.state_dir)?;
    let _lock = lock(&config.state_dir)?;
    let mut app = App::open(&config.state_dir, config.certificate_life.as_duration()).await?;
    app.store = app.store.keeping((&config.events).into());
    let alerting = Alerting::begin(&config.alerting)?;
    let services =
        Services::start(app.store.clone(), app.blobs.clone(), app.ca.clone(), alerting, app.stop.clone()).await?;
    let reloading = tokio::spawn(reload(config.alerting.clone(), services.alerts().clone()));
    let (address, connections) = listen::bind(config.listen, listen::server_config(&app.ca)?, app.stop.clone()).await?;
    let served = server()
        .add_routes(services.routes())
        .serve_with_incoming_shutdown(connections, app.stop.clone().cancelled_owned());
    let mut server = tokio::spawn(served);
    let metrics = services.metrics(config.state_dir.database());
    let telling = tokio::spawn(serve_metrics(config.metrics, metrics));
    let watchdog = tokio::spawn(feed_watchdog(app.store.clone()));
    notify(&[NotifyState::Ready]);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %address, ca = %app.ca.fingerprint(), "coordinator started");

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut server => {
            // A server that ends is a fault: systemd starts the coordinator again, which restarts no workload.
            anyhow::bail!("the server ended: {ended:?}");
        }
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!("coordinator stopping; hosts go on with what they have");
    app.stop.cancel();
    if tokio::time::timeout(SHUTDOWN_LIMIT, &mut server).await.is_err() {
        tracing::warn!("calls under way were cut off");
        server.abort();
    }
    watchdog.abort();
    reloading.abort();
    telling.abort();
    services.ended().await;
    app.store.close().await;
    Ok(())
}

/// Reads the alerting file again whenever SIGHUP comes. One that is wrong changes nothing.
async fn reload(path: PathBuf, alerts: Alerts) -> anyhow::Result<()> {
    let mut asked = signal(SignalKind::hangup())?;
    while asked.recv().await.is_some() {
        match Alerting::read(&path) {
            Ok(alerting) => match alerts.follow(alerting).await {
                Ok(()) => tracing::info!(path = %path.display(), "the alerting file was read again"),
                Err(error) => tracing::error!(%error, "the alerting file was not taken: the one before counts"),
            },
            Err(error) => tracing::error!(%error, "the alerting file was not taken: the one before counts"),
        }
    }
    Ok(())
}

/// HTTP/2 within limits; what may be said in it is limited per service (`rpc`).
pub(crate) fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_millis(KEEPALIVE_INTERVAL_MS)))
        .http2_keepalive_timeout(Some(Duration::from_millis(KEEPALIVE_TIMEOUT_MS)))
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(MAX_HEADERS_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
}

/// Makes the private state directory, 0700.
pub fn make_state_dir(dir: &StateDir) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir.path())
        .with_context(|| format!("cannot make {}", dir.path().display()))
}

/// Two coordinators on one state directory would contradict each other; a restore under a running one would be lost.
pub fn lock(dir: &StateDir) -> anyhow::Result<fs::File> {
    let path = dir.lock();
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| anyhow::anyhow!("a drover-coordinator is running with {}", dir.path().display()))?;
    Ok(file)
}

/// Logs go to stderr; journald stamps them with its own time.
pub fn log_to_stderr(filter: &str) -> anyhow::Result<()> {
    let filter: Targets = filter.parse().context("log: not a level or filter")?;
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(layer.without_time().with_ansi(false)).init();
    } else {
        registry.with(layer.with_ansi(io::stderr().is_terminal())).init();
    }
    Ok(())
}

async fn serve_metrics(config: MetricsConfig, metrics: Metrics) {
    if config.enabled {
        serve::serve(config.listen, Arc::new(metrics), Web::new(config.web_config)).await;
    }
}

/// Tells systemd that the runtime still turns and the store still answers; without that it restarts the coordinator.
async fn feed_watchdog(store: Store) {
    let Some(timeout) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(timeout / 3);
    loop {
        tick.tick().await;
        match store.audit(1).await {
            Ok(_) => notify(&[NotifyState::Watchdog]),
            Err(error) => tracing::error!(%error, "the store does not answer"),
        }
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
    //! A new state directory is filled, an old one is found again, and one that lost its keys is refused.
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_state_directory_is_made_once_and_private() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = StateDir(temporary.path().join("state"));
        make_state_dir(&dir).unwrap();
        let held = lock(&dir).unwrap();
        assert!(lock(&dir).unwrap_err().to_string().contains("is running"));
        drop(held);
        let app = App::open(&dir, crate::ca::CLIENT_LIFE).await.unwrap();
        let fingerprint = app.ca.fingerprint();
        app.store.record("ada", "test", "nothing", 1).await.unwrap();
        for path in [dir.database(), dir.secret_key(), dir.lock(), dir.database().with_added_extension("-wal")] {
            if let Ok(about) = fs::metadata(&path) {
                assert_eq!(about.permissions().mode() & 0o077, 0, "{}", path.display());
            }
        }
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
        app.store.close().await;
        let again = App::open(&dir, crate::ca::CLIENT_LIFE).await.unwrap();
        assert_eq!((again.ca.fingerprint(), again.store.audit(9).await.unwrap().len()), (fingerprint, 1));
        again.store.close().await;
        fs::remove_file(dir.secret_key()).unwrap();
        let said = App::open(&dir, crate::ca::CLIENT_LIFE).await.err().unwrap().to_string();
        assert!(said.contains("secret key is missing"), "{said}");
    }
}
