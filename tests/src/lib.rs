//! The test harness: `lab` boots real hosts, `fleet` puts drover on them as a user would, `tiny` is what gets deployed, from
//! `servers` if not by the operator; `shop` is it as a container; `recorder` keeps what was said.

pub mod fleet;
pub mod lab;
pub mod load;
pub mod recorder;
pub mod servers;
pub mod shop;
pub mod tiny;
