//! Who used which rule, day by day: what `bulkhead drift` and `bulkhead suggest` are answered from.
//!
//! ```text
//! events ─ HistorySink ─ Recent ─┐
//! flows, each minute ─── Look ───┼─ Recorder (a thread) ─ history.db
//! counters of rules ─────────────┘
//! ```
//!
//! Nothing waits for it: a disk that hangs keeps this one thread, and what does not fit into memory meanwhile is
//! recorded as of nobody known.

mod look;
mod opening;
mod recent;
mod recorder;
mod rules;

pub use self::recent::{HistorySink, Recent};
pub use self::recorder::Recorder;

/// The file in the state directory.
pub const FILE: &str = "history.db";
