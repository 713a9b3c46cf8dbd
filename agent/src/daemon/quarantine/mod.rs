//! Quarantine: who is cut off, and cutting off.

pub mod apply;
pub mod list;

pub use apply::{quarantine, quarantine_automatically, release};
