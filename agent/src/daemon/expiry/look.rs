//! Looks at what ends, when there may be something to tell, and has alarms follow.

use std::collections::BTreeSet;

use bulkhead_api::event::{Expiring, Timestamp};

use super::known::Known;
use super::watch::{Due, Group, On, due};
use super::{Endings, Limits};
use crate::daemon::alarms::{Active, Alarms, Cause, Found};

/// Between two looks at most, ns: a clock that is set is followed meanwhile.
const LOOK: u64 = 60 * 1_000_000_000;

/// When was looked, and at what.
#[derive(Debug, Default)]
pub struct Watch(Option<Looked>);

#[derive(Debug)]
struct Looked {
    at: u64,
    next: u64,
    generation: u32,
    changes: u64,
}

impl Watch {
    /// Whether a look at a time (ns since the Unix epoch) may find something else than the last one.
    pub fn is_due(&self, generation: u32, endings: &Endings, now: u64) -> bool {
        self.0.as_ref().is_none_or(|last| {
            let is_same = last.generation == generation && last.changes == endings.changes();
            // The clock may have been set back as well.
            !is_same || now < last.at || now >= last.next.min(last.at.saturating_add(LOOK))
        })
    }

    /// Looks, and has alarms follow: what is due is raised, and what is renewed or gone ends.
    pub fn look(
        &mut self,
        alarms: &Alarms,
        known: &Known,
        (generation, endings): (u32, &Endings),
        (node, limits): (&str, Limits),
        now: u64,
    ) {
        // In this order: what is put meanwhile is looked at next time.
        let (changes, is_complete) = (endings.changes(), endings.is_complete());
        let active: Vec<Active> = alarms.active();
        let on: Vec<On> = active.iter().filter_map(|active| on(&active.cause)).collect();
        let found = due(known.items(), node, limits, &on, now);
        follow(alarms, &found, known, &active, (is_complete, now));
        self.0 = Some(Looked { at: now, next: found.next, generation, changes });
    }
}

fn on(cause: &Cause) -> Option<On> {
    match cause {
        Cause::Expiry { expiring, at, level, .. } => {
            Some(On { kind: *expiring, at: at.clone(), level: *level })
        }
        _ => None,
    }
}

fn follow(alarms: &Alarms, due: &Due, known: &Known, active: &[Active], (is_complete, now): (bool, u64)) {
    let found: Vec<(&Group, Found)> =
        due.groups.iter().map(|group| (group, found(group, known, now))).collect();
    let names: BTreeSet<String> = found.iter().map(|(_, found)| found.cause.name()).collect();
    for Active { cause, detail, .. } in active {
        let Cause::Expiry { expiring, count, names: told, .. } = cause else { continue };
        let name = cause.name();
        // Whose source has not told yet what it knows is neither renewed nor gone.
        let is_unknown = *expiring == Expiring::Certificate && !is_complete;
        let is_over = !names.contains(&name) && !is_unknown;
        let has_more = found
            .iter()
            .any(|(group, found)| found.cause.name() == name && group.has_more_than(*count, told));
        if is_over || has_more {
            alarms.end(&Found::plain(cause.clone(), detail.clone()));
        }
    }
    found.iter().for_each(|(_, found)| _ = alarms.raise(found));
}

fn found(group: &Group, known: &Known, now: u64) -> Found {
    let only = if group.count == 1 { group.names.first() } else { None };
    let is_rule = group.kind == Expiring::Rule;
    let cause = Cause::Expiry {
        expiring: group.kind,
        at: group.at.clone(),
        level: group.level,
        expires: Timestamp::from_unix(group.first),
        names: group.names.clone(),
        count: group.count,
        rule: only.filter(|_| is_rule).and_then(|name| known.rule(name)).cloned(),
    };
    Found { count: group.count, ..Found::plain(cause, group.words(now)) }
}
