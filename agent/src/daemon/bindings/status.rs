//! What `status` tells of identities.

use std::collections::HashMap;

use bulkhead_api::event::BindingState;
use bulkhead_api::status::{Identities, Identity};
use bulkhead_peers::{Key, REJECT_AFTER};
use bulkhead_policy::inventory::Inventory;

use super::Bindings;
use super::seen::Seen;
use super::verdicts::{Verdict, holder, holders, text};
use crate::config::Binding;
use crate::daemon::clock::wall_time;

/// Addresses that are listed.
const LISTED: usize = 1000;

/// What the last look has found of the interfaces.
#[derive(Debug, Default)]
pub struct Report {
    /// Each with the name of its source.
    sources: Vec<(String, &'static str)>,
    /// Why some could not be read.
    pub problems: Vec<String>,
    /// When keys' last handshakes completed, in seconds since the Unix epoch.
    handshakes: HashMap<Key, u64>,
}

impl Report {
    /// Of a look.
    pub fn of(seen: &Seen) -> Self {
        let mut report = Self::default();
        for interface in &seen.interfaces {
            let source = interface.source.as_ref().map_or("none", |source| source.name());
            report.sources.push((interface.name.clone(), source));
            report.problems.extend(interface.problem.as_ref().map(|problem| {
                format!(
                    "the peers of {} cannot be read, so identities stay bound as they were: {problem}",
                    interface.name
                )
            }));
            for (key, time) in &interface.handshakes {
                let last = report.handshakes.entry(*key).or_default();
                *last = (*last).max(*time);
            }
        }
        report
    }
}

/// Identities as `status` has them; none if nobody looks.
pub fn identities(bindings: &Bindings, inventory: &Inventory) -> Option<Identities> {
    if bindings.choice == Binding::Off {
        return None;
    }
    let report = &bindings.report;
    let now = wall_time() / 1_000_000_000;
    let age = |verdict: &Verdict| {
        let (key, _) = verdict.found.as_ref()?;
        Some(now.saturating_sub(*report.handshakes.get(key)?))
    };
    let is_stale = |verdict: &Verdict| {
        verdict.state == BindingState::Bound && age(verdict).is_none_or(|age| age > REJECT_AFTER)
    };
    let mut found = Identities {
        enforced: bindings.choice == Binding::Enforce,
        sources: report.sources.iter().map(|(name, source)| (name.clone(), (*source).to_owned())).collect(),
        problems: report.problems.clone(),
        ..Identities::default()
    };
    // By urgency.
    let mut all: [Vec<_>; 4] = Default::default();
    let mut count = [0; BindingState::ALL.len()];
    for (address, verdict) in &bindings.verdicts {
        count[verdict.state as usize] += 1;
        found.stale += u64::from(is_stale(verdict));
        let list = &mut all[urgency(verdict.state)];
        if list.len() < LISTED {
            list.push((address, verdict));
        }
    }
    found.count =
        BindingState::ALL.iter().map(|state| (state.name().to_owned(), count[*state as usize])).collect();
    let holders = holders(inventory);
    found.addresses = all
        .into_iter()
        .flatten()
        .take(LISTED)
        .map(|(address, verdict)| Identity {
            node: verdict.node.clone(),
            address: *address,
            state: verdict.state,
            key: verdict.found.as_ref().map(|(key, _)| text(key)),
            holder: holder(&holders, verdict),
            interface: verdict.found.as_ref().map(|(_, on)| on.clone()),
            handshake_seconds: age(verdict),
            stale: is_stale(verdict),
        })
        .collect();
    Some(found)
}

const fn urgency(state: BindingState) -> usize {
    match state {
        BindingState::Conflicting => 0,
        BindingState::Unbound => 1,
        BindingState::Bound => 2,
        BindingState::Unproven => 3,
    }
}
