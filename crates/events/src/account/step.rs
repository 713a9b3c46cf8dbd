//! What one record adds to the account.

use bulkhead_api::event::{Counted, EventStats};
use serde::{Deserialize, Serialize};

use super::{Noted, digest};
use crate::sink::{Entry, Origin};

/// How many are noted at a time at most: as many as the file has room for.
pub(crate) const STEPS: usize = 20;

/// What a record of the event log tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Where it is from.
    of: Of,
    /// What it is there, as a digest; empty for the agent's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    item: String,
    counted: Counted,
    drops: u64,
    odd: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Of {
    Ring,
    Summary,
    Agent,
}

impl Step {
    /// Of an event.
    pub(crate) fn of(entry: &Entry) -> Self {
        let (of, item) = match &entry.origin {
            Origin::Ring(item) => (Of::Ring, digest(item)),
            Origin::Summary(item) => (Of::Summary, digest(item)),
            Origin::Agent => (Of::Agent, String::new()),
        };
        Self { of, item, counted: entry.counted, drops: entry.event.drops(), odd: entry.event.odd_drops() }
    }

    /// Adds it to what is noted. `is_written`: the log has it.
    pub(super) fn apply(&self, noted: &mut Noted, is_written: bool) {
        match self.of {
            Of::Ring => noted.last.clone_from(&self.item),
            Of::Summary => noted.summary = Some(self.item.clone()),
            Of::Agent => {}
        }
        self.count(&mut noted.stats, is_written);
    }

    /// Counts it. `is_written`: the log has it.
    pub(crate) fn count(&self, stats: &mut EventStats, is_written: bool) {
        *stats.count(self.counted) += self.drops;
        stats.odd += self.odd;
        if is_written {
            stats.written += 1;
        } else {
            stats.unwritten += 1;
            stats.unwritten_odd += self.odd;
            super::unwritten(stats, self.counted, self.drops);
        }
    }

    /// The longest that there is, for how much room it takes.
    #[cfg(test)]
    pub(super) fn longest() -> Self {
        let (of, item, counted) = (Of::Summary, digest(b""), Counted::GuardCounted);
        Self { of, item, counted, drops: u64::MAX, odd: u64::MAX }
    }
}
