//! The test harness.

pub mod lab;
