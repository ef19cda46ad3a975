//! The agent: looks after one host. docs/ARCHITECTURE.md has the map; the modules are listed in reading order.

pub mod app;
pub mod blob;
pub mod check;
pub mod config;
pub mod desired;
pub mod enroll;
pub mod exec;
pub mod gate;
pub mod host;
pub mod identity;
pub mod ledger;
pub mod link;
pub mod observe;
pub mod plan;
pub mod reconcile;
pub mod render;
pub mod report;
