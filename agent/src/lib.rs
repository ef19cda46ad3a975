//! The agent: looks after one host. docs/ARCHITECTURE.md has the map; the modules are listed in reading order.

pub mod config;
pub mod app;
pub mod identity;
pub mod enroll;
pub mod link;
pub mod blob;
pub mod check;
pub mod host;
