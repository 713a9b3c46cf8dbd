//! Text → policy and inventory, and what is wrong with them, with its place.

pub mod diagnostic;
pub mod inventory;
mod json;
pub mod policy;
pub mod source;
