//! Rules → one node's tables, and what those decide.

pub mod compile;
pub mod evaluate;
