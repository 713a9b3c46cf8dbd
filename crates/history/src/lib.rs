//! Who used which rule on which day: one SQLite file an agent.
//!
//! ```text
//! drops, flows, counters ─ Batch ─ one transaction a minute ─┬─ use_by_day  (a row a day)
//!                                                            └─ use_in_all  (first, last)
//! ```
//!
//! A rule is known by its fingerprint, so that its use follows it and not its number; an end by the node's name and
//! its address. Days are UTC's. The caller says what time it is: nothing here asks a clock.

pub mod answer;
mod idle;
mod keep;
mod open;
mod read;
mod record;
mod write;

#[cfg(test)]
mod tests;

pub use idle::UsedAgain;
pub use keep::Kept;
pub use open::{Error, History, SetAside};
pub use read::{Coverage, Reader, RuleSeen, Used};
pub use record::{Batch, End, RuleNote, Seen, Use, Verdict};

/// Seconds of a day.
pub const DAY: u64 = 86_400;

/// The day of a time (s since the Unix epoch): days since the Unix epoch, UTC.
#[must_use]
pub const fn day(time: u64) -> i64 {
    (time / DAY) as i64
}
