//! The host as the agent touches it: the only modules that read or change anything outside the agent's own state.
//!
//! `process` starts programs, `files` and `archive` write (`unpack` in a child without rights, which `confine` takes; in
//! another `git` fetches), `systemd` speaks to PID 1, `docker` to its engine, `compose` starts docker compose,
//! `users` and `packages` meet host needs, `journal`, `facts`, `clock`, `certificate`, `listeners`, `notice` and `room` only look. `swap`
//! makes a swap file. No decisions are made here; `exec` and `check` call it.

pub mod archive;
pub mod calendar;
pub mod certificate;
pub mod clock;
pub mod compose;
mod confine;
pub mod docker;
pub mod facts;
pub mod files;
pub mod git;
pub mod interfaces;
pub mod journal;
pub mod listeners;
pub mod nginx;
pub mod notice;
pub mod packages;
pub mod process;
pub mod room;
pub mod swap;
pub mod systemd;
pub mod unpack;
pub mod users;

pub use drover_exposition::{bounded, yaml};
