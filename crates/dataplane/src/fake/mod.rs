//! A kernel in memory, for tests: as far as the daemon can see it behaves as the real one does.
//!
//! Pins, links and tables outlive the process that made them; a link that nobody pins or holds is detached;
//! hooks change one at a time. Every call is a counted step that can be refused or never be made ([`Faults`]).

mod faults;
mod handle;
mod links;
mod machine;
mod migration;
mod plane;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use faults::{Crash, Fault, Faults};
pub use handle::Fake;
pub use links::FakeLinks;
pub use machine::Moment;
pub use migration::FakeMigration;
pub use tables::{FakeDevices, FakeTables};

/// The generations of a moment, each once.
#[must_use]
pub fn generations(moment: &Moment) -> BTreeSet<u32> {
    moment.values().flatten().copied().collect()
}
