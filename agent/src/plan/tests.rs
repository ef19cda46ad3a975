//! Plans, row by row; a model host that carries plans out; and properties over random releases.

mod instances;
mod model;
mod neighbours;
mod properties;
mod rows;
