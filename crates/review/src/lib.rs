//! The review pack: what was enforced, used, dropped and changed over a time, for whoever signs for it.
//!
//! ```text
//! records of the event log ─ log::Gather ─┐
//! history, policy, inventory ─ usage ─────┼─ Pack ─┬─ JSON
//! generations that are kept ──────────────┘        └─ page
//! ```
//!
//! The page is rendered from the [`Pack`] alone. Each part says where its figures are from; what is not known is
//! said, and never a zero.

pub mod log;
mod matrix;
pub mod pack;
pub mod page;
mod usage;

pub use log::Gather;
pub use pack::Pack;
pub use usage::{OfHistory, of_history};
