//! The contract between drover's programs, and the only crate that all of them see.
//!
//! Read in this order: `name` and `digest` (the words), `template`, `app` and `strategy` (what an operator asks for),
//! `spec` (what a host is told), `plan` (what a host will do), `status` (what it reports), `view` (what an operator
//! sees), `code` (errors), `limits`, `token`, `tls`, and `wire` (the generated messages).

pub mod app;
pub mod code;
pub mod digest;
pub mod duration;
pub mod limits;
pub mod name;
pub mod plan;
pub mod rollout;
pub mod secret;
pub mod spec;
pub mod status;
pub mod strategy;
pub mod template;
pub mod tls;
pub mod token;
pub mod view;

/// The generated protobuf messages and gRPC clients and servers of `proto/drover/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod wire {
    tonic::include_proto!("drover.v1");
}

/// The protocol this build speaks; see docs/ARCHITECTURE.md, "Versions".
pub const PROTOCOL_VERSION: u32 = 1;
