//! Plans, row by row; a model host that carries plans out; and properties over random releases.

mod adopted;
mod asked;
mod compose;
mod containers;
mod handover;
mod instances;
pub(crate) mod model;
mod neighbours;
mod preflight;
mod properties;
mod rows;
pub(crate) mod sockets;
