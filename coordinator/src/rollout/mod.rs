//! Rollouts: small persisted state machines that only ever write the desired state of hosts and read their reports.
//!
//! Read `state` (the document), `sight` (what a report says), `next` (the pure step), `order`; then `begin` (from a wish
//! to a document), `driver` (one task per active rollout: store, timer, effects) and `keeper` (all of them: events in,
//! controls, hosts that come later; `claims`: what no two apps may have). `rpc/operator` begins and controls them; `session` brings what hosts say.

pub mod begin;
pub mod claims;
mod driver;
pub mod keeper;
pub mod next;
pub mod order;
pub mod sight;
pub mod state;
mod writes;

pub use begin::{BeginError, Wish};
pub use keeper::{ControlError, Rollouts};
pub use state::Kind;
