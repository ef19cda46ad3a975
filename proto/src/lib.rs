//! The contract between drover's programs, and the only crate that all of them see.
//!
//! Read in this order: `name` and `digest` (the words), `template`, `app` and `strategy` (what an operator asks for),
//! `spec` (what a host is told), `plan` (what a host will do), `status` and `event` (what it reports), `view` (what an
//! operator sees), `code` (errors), `limits`, `token`, `tls`, and `wire` (the generated messages).

pub mod name;
pub mod digest;
pub mod secret;
pub mod duration;
pub mod template;
pub mod app;
pub mod strategy;
pub mod spec;
pub mod plan;
pub mod port;
pub mod status;
pub mod event;
pub mod rollout;
pub mod view;
pub mod code;
pub mod limits;
pub mod token;
pub mod tls;

/// The generated protobuf messages and gRPC clients and servers of `proto/drover/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod wire {
    tonic::include_proto!("drover.v1");
}

/// The protocol this build speaks; see docs/ARCHITECTURE.md, "Versions".
pub const PROTOCOL_VERSION: u32 = 1;
