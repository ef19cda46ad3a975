//! Every limit that both sides share, its unit in its name.

/// One gRPC message, either way.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;
/// A host's whole report, as JSON.
pub const MAX_REPORT_BYTES: usize = 512 << 10;
/// One app's document.
pub const MAX_APP_SPEC_BYTES: usize = 2 << 20;
/// One chunk of a blob on the wire.
pub const BLOB_CHUNK_BYTES: usize = 256 << 10;
/// An artifact's archive.
pub const MAX_ARTIFACT_BYTES: u64 = 2 << 30;
/// An artifact, unpacked.
pub const MAX_UNPACKED_BYTES: u64 = 8 << 30;
/// Files, directories and links in an artifact.
pub const MAX_ARCHIVE_ENTRIES: u64 = 200_000;
/// The content of one file of a manifest.
pub const MAX_FILE_BYTES: usize = 512 << 10;
/// Files of one app.
pub const MAX_FILES_PER_APP: usize = 200;
/// Units of one app.
pub const MAX_UNITS_PER_APP: usize = 100;
/// Containers of one app.
pub const MAX_CONTAINERS_PER_APP: usize = 50;
/// Compose projects of one app.
pub const MAX_PROJECTS_PER_APP: usize = 10;
/// Compose files of one project.
pub const MAX_COMPOSE_FILES: usize = 10;
/// Services of one compose project.
pub const MAX_SERVICES: usize = 100;
/// Ports, volumes, labels … of one container, each.
pub const MAX_OF_CONTAINER: usize = 64;
/// The least memory that Docker gives a container.
pub const MIN_CONTAINER_MEMORY_BYTES: u64 = 6 << 20;
/// A swap file that a manifest asks for.
pub const SWAP_BYTES: std::ops::RangeInclusive<u64> = 16 << 20..=256 << 30;
/// Ports of one unit.
pub const MAX_PORTS_PER_UNIT: usize = 64;
/// For how long at most an instance that is replaced may finish what it has begun.
pub const MAX_DRAIN_MS: u64 = 60 * 60 * 1000;
/// How often an agent starts one unit again within the window of its budget.
pub const MAX_RESTART_ATTEMPTS: u32 = 100;
/// Paths that one part is restarted for.
pub const MAX_WATCHED_PATHS: usize = 32;
/// Certificates that one app looks after.
pub const MAX_CERTIFICATES: usize = 32;
/// Arguments of one program.
pub const MAX_ARGV: usize = 256;
/// A secret's value.
pub const MAX_SECRET_BYTES: usize = 64 << 10;
/// One file's diff in a plan.
pub const MAX_DIFF_BYTES: usize = 32 << 10;
/// Lines of one piece of evidence, and bytes of one line.
pub const MAX_EVIDENCE_LINES: usize = 40;
/// Bytes of one line of evidence.
pub const MAX_EVIDENCE_LINE_BYTES: usize = 1000;
/// The whole of a TLS handshake.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;
/// Between two keep-alive pings on a stream.
pub const KEEPALIVE_INTERVAL_MS: u64 = 5_000;
/// For the answer to one; then the connection is dead.
pub const KEEPALIVE_TIMEOUT_MS: u64 = 5_000;
/// The time-to-live of a plan job: a host that has not made its plan by then says so.
pub const PLAN_TTL_MS: u64 = 17_000;
/// What an event says, in bytes.
pub const MAX_EVENT_MESSAGE_BYTES: usize = 2000;
/// Events of one batch.
pub const MAX_BATCH_EVENTS: usize = 200;
/// One batch of events, as JSON.
pub const MAX_BATCH_BYTES: usize = 64 << 10;
/// Rules of one app, or for all hosts.
pub const MAX_ALERT_RULES: usize = 100;
/// Labels of one rule, and annotations.
pub const MAX_ALERT_WORDS: usize = 16;
/// One annotation, or what an alert says.
pub const MAX_ALERT_TEXT_BYTES: usize = 1000;
/// Alerts of one host at one time; of more the rest is told as one.
pub const MAX_ALERTS_PER_HOST: usize = 200;
