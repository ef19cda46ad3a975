//! The agent: looks after one host. docs/ARCHITECTURE.md has the map; the modules are listed in reading order.

pub mod config;
pub mod app;
pub mod identity;
pub mod enroll;
pub mod link;
pub mod blob;
pub mod import;
pub mod desired;
pub mod ledger;
pub mod handover;
pub mod reconcile;
pub mod observe;
pub mod render;
pub mod policy;
pub mod plan;
pub mod drift;
pub mod budget;
pub mod upkeep;
pub mod watch;
pub mod exec;
pub mod outputs;
pub mod gate;
pub mod check;
pub mod report;
pub mod event;
pub mod host;
