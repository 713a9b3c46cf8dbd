//! Policy and inventory → tables for one node. Pure: no I/O beyond its arguments.
//!
//! [`policy::parse`] and [`inventory::parse`] read files; [`resolve::resolve`] makes the
//! ordered rules; [`compile::compile`] makes one node's tables; [`mod@reference`] decides the
//! same rule by rule.

pub mod address;
mod bits;
pub mod check;
pub mod compile;
mod crossing;
mod decide;
pub mod diagnostic;
mod dialect;
pub mod diff;
pub mod evaluate;
pub mod explain;
pub mod interval;
pub mod inventory;
mod json;
pub mod policy;
pub mod proof;
pub mod reach;
pub mod reference;
pub mod resolve;
pub mod service;
pub mod source;
mod space;
mod suggest;
mod sweep;
mod unmet;
pub mod verify;

pub use dialect::Dialect;
