//! What must hold for an app to be healthy: its checks. Beside `app`; `check/checks` has their rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    duration::Span,
    name::{AbsPath, ContainerName, MountPoint, UnitName, UserName},
    template::{Argv, Template},
};

/// Something that must hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is looked at.
    pub probe: Probe,
    /// From one look to the next.
    pub interval: Span,
    /// For one look.
    pub timeout: Span,
    /// So many answers in a row that are as wanted make it pass again.
    #[serde(default = "rise", skip_serializing_if = "is_rise")]
    pub rise: u32,
    /// So many in a row that are not make it fail.
    #[serde(default = "fall", skip_serializing_if = "is_fall")]
    pub fall: u32,
    /// For so long after a start of the app, or of a part of it, answers that are not as wanted do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: Span,
    /// Restarted when it fails, within the restart budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartOf>,
}

const RISE: u32 = 1;
const FALL: u32 = 2;

fn rise() -> u32 {
    RISE
}
fn is_rise(rise: &u32) -> bool {
    *rise == RISE
}
fn fall() -> u32 {
    FALL
}
fn is_fall(fall: &u32) -> bool {
    *fall == FALL
}
fn is_zero(span: &Span) -> bool {
    span.as_ms() == 0
}

impl Check {
    /// With the defaults of all that is not said.
    #[must_use]
    pub fn new(probe: Probe, interval: Span, timeout: Span) -> Self {
        Self { probe, interval, timeout, rise: RISE, fall: FALL, start_period: Span::default(), restart: None }
    }
}

/// A part of the app that a failing check has restarted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RestartOf {
    /// A unit.
    Unit(UnitName),
    /// A container.
    Container(ContainerName),
}

/// How a check looks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Probe {
    /// An HTTP request.
    Http(HttpProbe),
    /// A TCP connection is accepted: `host:port`.
    Tcp(String),
    /// A program ends with 0.
    Command {
        /// The program.
        run: Argv,
        /// As whom.
        user: UserName,
    },
    /// A unit is active.
    Unit(UnitName),
    /// A container runs, and is healthy if it has a healthcheck.
    Container(ContainerName),
    /// A certificate is good, and stays so for a while.
    Certificate(CertificateProbe),
    /// A file is not too old.
    File(FileProbe),
    /// A file system is not too full.
    Disk(DiskProbe),
}

/// A certificate, and for how long it must still be good.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateProbe {
    /// Where it is found.
    pub at: CertificateAt,
    /// It ends no sooner than this.
    pub min_left: Span,
}

/// Where a certificate is found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CertificateAt {
    /// In a file, PEM, the leaf first.
    File(AbsPath),
    /// Shown by a server in a TLS handshake. Who signed it is not asked.
    Endpoint {
        /// `host:port`.
        address: String,
        /// Which name is asked for; `None` = the address's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server_name: Option<String>,
    },
}

/// A file that somebody writes again and again, such as a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileProbe {
    /// A file; a directory stands for its newest file, and so does a last part with `*` or `?`.
    pub path: AbsPath,
    /// It was written no longer ago than this.
    pub max_age: Span,
    /// It has at least so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size_bytes: Option<u64>,
}

/// A file system, as `df` counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskProbe {
    /// Any place on it.
    pub path: MountPoint,
    /// At most so many percent are in use.
    pub max_used: u32,
}

/// An HTTP request and what its answer must be. Redirects are not followed; 1 MiB of the body is read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// `http://` or `https://`.
    pub url: Template,
    /// GET, HEAD, POST …
    pub method: String,
    /// Request headers.
    pub headers: BTreeMap<String, Template>,
    /// The status wanted; `None` = 200 to 299.
    pub status: Option<u16>,
    /// Response headers wanted, value for value.
    pub expect_headers: BTreeMap<String, String>,
    /// A text that the body contains.
    pub body_contains: Option<String>,
    /// JSONPath (RFC 9535) → the value that the first match has.
    pub json: BTreeMap<String, serde_json::Value>,
}
