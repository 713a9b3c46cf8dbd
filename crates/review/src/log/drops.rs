//! Drops by day and reason.

use std::collections::BTreeMap;

use bulkhead_api::event::{Drop, Timestamp};
use bulkhead_history::DAY;
use bulkhead_history::answer::date;

use super::coverage::Attested;
use crate::pack::{DayOfDrops, Drops, OfReason, Source};

/// Packets of one reason: dropped, and let pass by audit mode.
type Counts = [u64; 2];

/// Sums drops up.
#[derive(Default)]
pub(super) struct Dropping {
    by_day: BTreeMap<u64, BTreeMap<String, Counts>>,
}

impl Dropping {
    pub(super) fn take(&mut self, time: Timestamp, drop: &Drop) {
        let day = time.unix() / super::coverage::DAY;
        let counts = self.by_day.entry(day).or_default().entry(drop.reason.to_string()).or_default();
        let count = &mut counts[usize::from(drop.audit)];
        *count = count.saturating_add(drop.count);
    }

    pub(super) fn end(mut self, source: Source, attested: &Attested, untold: u64) -> Drops {
        let mut reasons: BTreeMap<&str, Counts> = BTreeMap::new();
        for (reason, counts) in self.by_day.values().flatten() {
            let all = reasons.entry(reason).or_default();
            (0..2).for_each(|at| all[at] = all[at].saturating_add(counts[at]));
        }
        let mut reasons: Vec<OfReason> = reasons
            .into_iter()
            .map(|(reason, [dropped, audited])| OfReason { reason: reason.to_owned(), dropped, audited })
            .collect();
        reasons.sort_by_key(|of| std::cmp::Reverse((of.dropped, of.audited)));
        let days = attested.0.iter().map(|(day, (asked, attested))| {
            let counts = self.by_day.remove(day).unwrap_or_default();
            let audited = counts.values().map(|counts| counts[1]).sum();
            let dropped = counts.into_iter().filter(|(_, counts)| counts[0] != 0);
            DayOfDrops {
                day: date(day * DAY),
                asked: *asked,
                attested: *attested,
                reasons: dropped.map(|(reason, counts)| (reason, counts[0])).collect(),
                audited,
            }
        });
        let days = days.collect();
        Drops { source, reasons, days, untold }
    }
}
