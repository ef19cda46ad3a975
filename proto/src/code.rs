//! Error codes: stable, each with an entry in docs/ERRORS.md, and one exhaustive table to gRPC status codes.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal => $grpc:ident,)*) => {
        /// What went wrong, in a word that does not change.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }
        impl Code {
            /// Every code, in the order of docs/ERRORS.md.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];
            /// The code as users see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }
            /// The gRPC status that carries it.
            #[must_use]
            pub const fn grpc(self) -> tonic::Code {
                match self { $(Code::$variant => tonic::Code::$grpc,)* }
            }
        }
    };
}

codes! {
    /// The manifest is refused.
    Manifest = "manifest" => InvalidArgument,
    /// A request's field is refused.
    Invalid = "invalid" => InvalidArgument,
    /// No such app, host, release, rollout, token …
    NotFound = "not-found" => NotFound,
    /// The name is taken.
    Exists = "exists" => AlreadyExists,
    /// No certificate, or one that does not allow this call.
    Forbidden = "forbidden" => PermissionDenied,
    /// The certificate or its owner has been revoked or removed.
    Revoked = "revoked" => Unauthenticated,
    /// The token is unknown, used up, expired, revoked, or another coordinator's.
    Token = "token" => Unauthenticated,
    /// The other side speaks a protocol that this one does not.
    Protocol = "protocol" => FailedPrecondition,
    /// The world has changed since the plan was made.
    PlanChanged = "plan-changed" => Aborted,
    /// No host has the labels that the app asks for.
    NoTargets = "no-targets" => FailedPrecondition,
    /// A secret that the app names has not been stored.
    SecretMissing = "secret-missing" => FailedPrecondition,
    /// The artifact has not been pushed.
    ArtifactMissing = "artifact-missing" => FailedPrecondition,
    /// Content does not have the digest it should have.
    DigestMismatch = "digest-mismatch" => DataLoss,
    /// The rollout is in a state in which that cannot be done.
    RolloutState = "rollout-state" => FailedPrecondition,
    /// A size, count or rate limit.
    Limit = "limit" => ResourceExhausted,
    /// The host is not connected.
    HostOffline = "host-offline" => Unavailable,
    /// The host did not answer in time.
    HostTimeout = "host-timeout" => DeadlineExceeded,
    /// The instruction is past its time-to-live, or a replay.
    JobExpired = "job-expired" => DeadlineExceeded,
    /// A host that is connected could not say what it would do.
    PlanFailed = "plan-failed" => FailedPrecondition,
    /// A path or unit belongs to another app.
    OwnedByOther = "owned-by-other" => FailedPrecondition,
    /// A path or unit is there already and drover does not own it.
    NotOwned = "not-owned" => FailedPrecondition,
    /// A symbolic link or something else unsafe is where a file or directory should go.
    UnsafePath = "unsafe-path" => FailedPrecondition,
    /// A user or group does not exist on the host.
    NoSuchUser = "no-such-user" => FailedPrecondition,
    /// Something else listens on a port that a unit wants.
    PortTaken = "port-taken" => FailedPrecondition,
    /// A host has no room for the release, in bytes or in files.
    Disk = "disk" => FailedPrecondition,
    /// A host's clock and the coordinator's differ.
    ClockSkew = "clock-skew" => FailedPrecondition,
    /// A host's certificate ends soon, and has not been renewed.
    CertificateExpiring = "certificate-expiring" => FailedPrecondition,
    /// A host need (package, user, directory) could not be met.
    HostNeed = "host-need" => FailedPrecondition,
    /// The artifact could not be fetched.
    Fetch = "fetch" => Unavailable,
    /// The archive holds something that is not allowed, or is damaged.
    Archive = "archive" => InvalidArgument,
    /// A build step failed or took too long.
    Build = "build" => FailedPrecondition,
    /// A file's own check failed.
    Validate = "validate" => FailedPrecondition,
    /// A lifecycle hook failed or took too long.
    Hook = "hook" => FailedPrecondition,
    /// A file could not be written or removed.
    Write = "write" => Internal,
    /// systemd refused or failed an operation.
    Systemd = "systemd" => Internal,
    /// The Docker engine of a host is not there, does not answer, or refused an operation.
    Docker = "docker" => Internal,
    /// An image could not be found in its registry, or not be fetched.
    Image = "image" => Unavailable,
    /// A compose project cannot be read, or asks for something that drover does not do; or compose itself failed.
    Compose = "compose" => FailedPrecondition,
    /// The host's own policy does not allow a container what it asks for.
    Policy = "policy" => FailedPrecondition,
    /// The app was not healthy before its deadline.
    Gate = "gate" => FailedPrecondition,
    /// The agent was interrupted in the middle of an activation.
    Interrupted = "interrupted" => Aborted,
    /// The release before could not be activated again.
    Revert = "revert" => Internal,
    /// The store could not be read or written.
    Store = "store" => Internal,
    /// A fault of drover's own.
    Internal = "internal" => Internal,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The metadata key under which a gRPC status carries its code.
pub const CODE_METADATA: &str = "drover-code";

/// A gRPC status with this code and one sentence for people.
#[must_use]
pub fn status(code: Code, message: impl Into<String>) -> tonic::Status {
    let mut status = tonic::Status::new(code.grpc(), message);
    status.metadata_mut().insert(CODE_METADATA, tonic::metadata::MetadataValue::from_static(code.as_str()));
    status
}

/// The code that a status carries, if it carries one this build knows.
#[must_use]
pub fn of_status(status: &tonic::Status) -> Option<Code> {
    let text = status.metadata().get(CODE_METADATA)?.to_str().ok()?;
    Code::ALL.iter().copied().find(|code| code.as_str() == text)
}
