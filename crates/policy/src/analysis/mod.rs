//! What is asked of resolved rules: whether they hold, what they do, and what a change of them does.
//!
//! [`check::Loaded::check`] asks all that must hold before rules are enforced.

mod address_classes;
pub mod boundaries;
pub mod check;
mod decide;
pub mod diff;
pub mod enroller;
pub(crate) mod equivalence;
pub mod explain;
pub mod held;
pub mod least;
pub mod proof;
pub mod reference;
mod review;
pub mod sources;
mod unmet;
pub mod unreachable;
pub mod verify;
