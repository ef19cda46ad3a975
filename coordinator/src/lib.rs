//! The coordinator: keeps what every host should run, and rolls it out.
//!
//! Read in this order: `config` and `app` (wiring), `listen` and `caller` (who is there), `ca` and `vault` (keys),
//! `blob` and `store` (what is kept), then what it is for: `session`, `figures`, `rollout`, `rpc`, `metrics`; `admin` is the command line on
//! the coordinator's own machine.

pub mod args;
pub mod config;
pub mod app;
pub mod admin;
pub mod clock;
pub mod counts;
pub mod listen;
pub mod caller;
pub mod ca;
pub mod vault;
pub mod blob;
pub mod store;
pub mod figures;
pub mod session;
pub mod renewal;
pub mod rollout;
pub mod notify;
pub mod alert;
pub mod rpc;
pub mod metrics;
