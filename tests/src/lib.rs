//! The test harness: `lab` boots real hosts, `fleet` puts drover on them as a user would, `tiny` is what gets deployed.

pub mod fleet;
pub mod lab;
pub mod tiny;
