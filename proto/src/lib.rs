//! The contract between drover's programs, and the only crate that all of them see.
//!
//! Read in this order: `name` and `digest` (the words), `template`, `app` and `strategy` (what an operator asks for),
//! `spec` (what a host is told), `plan` (what a host will do), `found` (what runs there already), `status`, `alert` and `event` (what it reports), `view` and `prune` (what
//! an operator sees), `code` (errors), `limits`, `token`, `tls`, and `wire` (the generated messages).

pub mod name;
pub mod digest;
pub mod secret;
pub mod duration;
pub mod bytes;
pub mod template;
pub mod app;
pub mod alert;
pub mod strategy;
pub mod source;
pub mod spec;
pub mod plan;
pub mod found;
pub mod port;
pub mod image;
pub mod status;
pub mod event;
pub mod rollout;
pub mod view;
pub mod prune;
pub mod code;
pub mod limits;
pub mod token;
pub mod tls;

/// The generated protobuf messages and gRPC clients and servers of `proto/drover/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod wire {
    tonic::include_proto!("drover.v1");
}

/// The contract itself, a `google.protobuf.FileDescriptorSet`: what services and calls there are.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The newest protocol that this build speaks; see docs/ARCHITECTURE.md, "Versions".
pub const PROTOCOL_VERSION: u32 = 5;
/// The oldest one.
pub const MIN_PROTOCOL_VERSION: u32 = 1;

/// What two programs speak with each other: the newest that both know. `None`: there is none. `newest` and `oldest` are
/// what the other one says of itself; `oldest` 0 = it says nothing, and speaks `newest` only.
#[must_use]
pub fn common_protocol(newest: u32, oldest: u32) -> Option<u32> {
    let oldest = if oldest == 0 { newest } else { oldest };
    let common = newest.min(PROTOCOL_VERSION);
    (common >= MIN_PROTOCOL_VERSION && common >= oldest).then_some(common)
}

#[cfg(test)]
mod tests {
    //! Which versions understand each other.
    use super::*;

    #[test]
    fn neighbours_understand_each_other() {
        let rows = [
            // what the other says of itself, what is spoken
            (1, 0, Some(1)),
            (2, 0, Some(2)),
            (2, 1, Some(2)),
            (3, 2, Some(3)),
            (3, 0, Some(3)),
            (4, 3, Some(4)),
            (4, 0, Some(4)),
            (5, 4, Some(5)),
            (5, 0, Some(5)),
            (6, 5, Some(5)),
            (6, 0, None),
            (7, 6, None),
            (0, 0, None),
        ];
        for (newest, oldest, spoken) in rows {
            assert_eq!(common_protocol(newest, oldest), spoken, "{newest} down to {oldest}");
        }
    }
}
