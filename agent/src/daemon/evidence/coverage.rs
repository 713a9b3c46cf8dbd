//! What enforced over an interval, by the kernel's word at its ends and at every look in between.

use std::collections::BTreeMap;

use bulkhead_api::event::{Coverage, Covered, CoveredHook, Kind, Timestamp};
use bulkhead_dataplane::{Attached, Dataplane};
use bulkhead_events::Facts as _;

use crate::daemon::clock::boot_time;
use crate::daemon::events::timestamp;
use crate::daemon::reconcile;
use crate::daemon::state::Enforcer;

/// An interval that goes on.
pub struct Interval {
    since: Timestamp,
    at_start: Covered,
    /// Nanoseconds without enforcement until its start.
    unenforced: BTreeMap<String, u64>,
}

impl Interval {
    /// Begins now.
    pub fn begin<D: Dataplane>(enforcer: &Enforcer<D>) -> Self {
        let (unenforced, _) = reconcile::watched(enforcer);
        Self { since: timestamp(boot_time()), at_start: covered(enforcer), unenforced }
    }

    /// Its start.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Ends now, and the next one begins. What it attests.
    pub fn close<D: Dataplane>(&mut self, enforcer: &Enforcer<D>) -> Kind {
        let (unenforced, looks) = reconcile::watched(enforcer);
        let next = Self { since: timestamp(boot_time()), at_start: covered(enforcer), unenforced };
        let Self { since, at_start, unenforced: before } = std::mem::replace(self, next);
        let unenforced = since_then(&before, &self.unenforced);
        let at_end = (self.at_start != at_start).then(|| self.at_start.clone());
        let is_on = |covered: &Covered| covered.generation != 0 && !covered.hooks.is_empty();
        let whole = is_on(&at_start) && is_on(&self.at_start) && unenforced.is_empty() && looks.count != 0;
        Kind::Coverage(Box::new(Coverage {
            since,
            whole,
            at_start,
            at_end,
            unenforced,
            looks: looks.count,
            longest_look: u64::try_from(looks.longest.as_nanos()).unwrap_or(u64::MAX),
            read_back: None,
        }))
    }
}

/// What came to be unenforced between two readings.
fn since_then(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since = |(what, time): (&String, &u64)| {
        let time = time.saturating_sub(before.get(what).copied().unwrap_or(0));
        (time != 0).then(|| (what.clone(), time))
    };
    after.iter().filter_map(since).collect()
}

/// What enforces now. That each hook runs these programs the last look has asked of the kernel, or it is unenforced.
fn covered<D: Dataplane>(enforcer: &Enforcer<D>) -> Covered {
    let live = enforcer.live();
    if live.detached {
        return Covered::default();
    }
    let (generation, mode) = (live.built.number, live.built.mode);
    let there = live.attached.iter().filter(|attached| attached.index != 0);
    let hooks = there.flat_map(hooks_of).collect();
    let absent = live.attached.iter().filter(|attached| attached.index == 0);
    let absent = absent.map(|attached| attached.interface.clone()).collect();
    let quarantined = live.quarantined.0.iter().map(|entry| entry.subject.clone()).collect();
    drop(live);
    let digests = enforcer.shared.facts.files(generation);
    let (policy, inventory) = digests.map(|files| (files.policy, files.inventory)).unzip();
    Covered { generation, mode, policy, inventory, hooks, absent, quarantined }
}

fn hooks_of(attached: &Attached) -> impl Iterator<Item = CoveredHook> {
    let programs = attached.hooks.iter().zip(&attached.programs).enumerate();
    programs.map(|(place, (hook, program))| CoveredHook {
        interface: attached.interface.clone(),
        hook: *hook,
        program: *program,
        tag: attached.tags.get(place).cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::since_then;

    #[test]
    fn only_what_came_since_is_told() {
        let before = [("wg0".to_owned(), 7), ("guard".to_owned(), 0)].into();
        let after = [("wg0".to_owned(), 7), ("guard".to_owned(), 3), ("wg1".to_owned(), 2)].into();
        let came = since_then(&before, &after);
        assert_eq!(came, [("guard".to_owned(), 3), ("wg1".to_owned(), 2)].into());
    }
}
