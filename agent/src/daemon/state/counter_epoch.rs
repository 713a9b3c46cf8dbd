//! Since when the kernel's counters count: totals that begin anew are never taken for small ones.

use bulkhead_api::status::Counted;
use bulkhead_dataplane::Unreadable;
use serde::{Deserialize, Serialize};

use crate::daemon::clock::{BootClock, wall_time};
use crate::daemon::log::{log_and_default, log_unsaved};
use crate::daemon::store::Store;

/// The file in the state directory.
const FILE: &str = "counting.json";

/// Tables of totals: by reason, of drops that are not reported, and of losses. The first are completed
/// by the others.
const TOTALS: [&str; 3] = ["REASON_COUNTERS", "UNREPORTED", "LOST_EVENTS"];

/// Since when the totals in status count, and what they lack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterEpoch {
    /// Since when, ns since the Unix epoch; 0: not known.
    #[serde(rename = "since")]
    pub started: u64,
    /// Totals that began anew then, by the name of their table, because another map ABI's were not known.
    #[serde(rename = "anew")]
    pub reset_tables: Vec<String>,
    /// Drops that are counted by reason and that only another map ABI's tables told of, or lost.
    #[serde(rename = "unread")]
    pub unaccounted: u64,
}

impl CounterEpoch {
    /// As it was noted.
    pub fn read(store: &Store) -> Self {
        store.load(FILE).unwrap_or_else(log_and_default).unwrap_or_default()
    }

    /// The same for status, with the time for people.
    #[must_use]
    pub fn counted(self) -> Counted {
        let clock = BootClock::now();
        let since_time = (self.started != 0).then(|| clock.rfc3339(clock.deadline(self.started)));
        Counted { since: self.started, anew: self.reset_tables, unread: self.unaccounted, since_time }
    }

    /// Notes that nothing was enforced before.
    pub fn begin(store: &Store) {
        log_unsaved(store.save(FILE, &Self { started: wall_time(), ..Self::default() }));
    }

    /// Notes what a takeover has lost, and says so.
    pub fn take_over(store: &Store, unreadable: &[&str], unread: Unreadable) {
        let Unreadable { events, kinds, aggregated, is_at_least, lost } = unread;
        let drops = events + aggregated;
        if events + kinds != 0 {
            let at_least = if is_at_least { "at least " } else { "" };
            tracing::warn!(
                "lost with another map ABI's tables: {events} events that nobody had read, and summaries of {kinds} \
                 kinds of drops; {at_least}{drops} drops are in no report"
            );
        }
        let counted = Self::read(store);
        let next = if unreadable.contains(&TOTALS[0]) {
            let reset = TOTALS.iter().filter(|total| unreadable.contains(*total)).map(ToString::to_string);
            Self { started: wall_time(), reset_tables: reset.collect(), unaccounted: 0 }
        } else {
            Self { unaccounted: counted.unaccounted + drops + lost, ..counted.clone() }
        };
        if next != counted {
            log_unsaved(store.save(FILE, &next));
        }
    }
}
