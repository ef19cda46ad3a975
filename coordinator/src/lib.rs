//! The coordinator: keeps what every host should run, and rolls it out.
//!
//! Read in this order: `config` and `app` (wiring), `listen` and `caller` (who is there), `ca` and `vault` (keys),
//! `blob` and `store` (what is kept), then what it is for: `session`, `rollout`, `rpc`; `admin` is the command line on
//! the coordinator's own machine.

pub mod admin;
pub mod app;
pub mod args;
pub mod blob;
pub mod ca;
pub mod caller;
pub mod clock;
pub mod config;
pub mod listen;
pub mod rollout;
pub mod rpc;
pub mod session;
pub mod store;
pub mod vault;
