//! Rollouts: small persisted state machines that only ever write the desired state of hosts and read their reports.
//!
//! Read `state` (the document), `sight` (what a report says), `next` (the pure step), `order`, then `driver` (store,
//! timers, effects). `rpc/operator` begins and controls them; `session` brings what hosts say.

pub mod next;
pub mod order;
pub mod sight;
pub mod state;
