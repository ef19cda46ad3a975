//! Plans, row by row; a model host that carries plans out; and properties over random releases.

mod model;
mod neighbours;
mod properties;
mod rows;
