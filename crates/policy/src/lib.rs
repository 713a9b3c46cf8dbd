//! Policy and inventory → tables for one node. Pure: no I/O beyond its arguments.
//!
//! [`frontend`] reads files; [`mod@resolve`] makes the ordered rules; [`analysis`] asks what must hold of
//! them, and what they do; [`backend`] makes one node's tables. Each needs only those before it.

pub mod address;
pub mod analysis;
pub mod backend;
mod bits;
mod dialect;
pub mod frontend;
pub mod interval;
pub mod resolve;
pub mod service;
mod suggest;

pub use analysis::{
    boundaries, check, diff, enroller, explain, held, least, proof, reference, sources, unreachable, verify,
};
pub use backend::{compile, evaluate};
pub use dialect::Dialect;
pub use frontend::{diagnostic, inventory, policy, source};
pub use resolve::fingerprint;
