//! From what hosts report to what people are told.
//!
//! Read `config` (the rules of the fleet, routes, receivers, maintenance), `book` (which alerts there are, and how they are muted),
//! `fleet` (those that only the coordinator can tell), `group` (pure: what is to be sent now) and `engine` (the one task that does it all
//! when something has changed). What is to be sent is in the store before it is sent; `deliver` does that, one receiver at a time.
//! `notify` knows the receivers.

mod book;
pub mod config;
mod deliver;
pub mod engine;
mod fleet;
mod group;
mod maintenance;
mod matcher;
mod steps;
mod tell;

#[cfg(test)]
mod tests;

pub use config::Alerting;
pub use engine::Alerts;
pub use matcher::{Matcher, MatcherError, holds};
