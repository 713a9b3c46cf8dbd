//! What `status` tells of the fleet.

use std::time::Duration;

use bulkhead_api::status::{self, FleetBundles, FleetRefusal};

use super::{Bundle, local, origin};
use crate::commands::history::who;
use crate::daemon::clock::{boot_time, wall_time};
use crate::daemon::state::{Enforcer, Live, held};

/// What is told of the fleet; none: agent.toml has none.
#[must_use]
pub fn status(enforcer: &Enforcer, live: &Live) -> Option<status::Fleet> {
    let settings = enforcer.setup.config.fleet.as_ref()?;
    let known = held(&enforcer.setup.fleet.known);
    let made = enforcer.store.made_of(live.ledger.enforced);
    let is_local = made.as_ref().is_some_and(|made| local::is_local(&made.signed, &known.record));
    let enforced = made.and_then(|made| made.signed.fleet);
    let origin = enforcer.store.origin(live.ledger.enforced);
    let local = is_local.then(|| {
        let by = origin.map(|origin| format!(": {} by {}", origin.action.name(), who(&origin.by)));
        let by = by.unwrap_or_default();
        format!("what runs is not what the fleet has signed{by}; `bulkhead fleet resume` goes back to that")
    });
    let verified = known.verified.get("policy").zip(known.verified.get("inventory"));
    let of = |checked| Bundle::of(checked).told();
    let expires = known.verified.values().map(|checked| checked.expires).min();
    let now = (wall_time() / 1_000_000_000).cast_signed();
    let refusal = |refused: &super::record::Refused| FleetRefusal {
        what: refused.what(),
        digests: vec![refused.bundles.policy.digest.clone(), refused.bundles.inventory.digest.clone()],
        why: refused.why.clone(),
        gone_back: refused.blamed.is_some(),
    };
    let problems: Vec<&str> = known.problems.values().map(String::as_str).collect();
    Some(status::Fleet {
        origin: origin::name(&settings.from),
        enforced: enforced.map(|bundles| bundles.told()),
        verified: verified
            .map(|(policy, inventory)| FleetBundles { policy: of(policy), inventory: of(inventory) }),
        checked_seconds: known
            .checked
            .map(|time| Duration::from_nanos(boot_time().saturating_sub(time)).as_secs()),
        fresh_seconds: expires.map(|expires| expires.saturating_sub(now)),
        problem: (!problems.is_empty()).then(|| problems.join("; ")),
        waiting: known.waiting.clone(),
        notes: known.notes.clone(),
        local,
        refused: known
            .record
            .given_up_again(&known.later)
            .iter()
            .chain(&known.record.refused)
            .map(refusal)
            .collect(),
        refusals: known.refusals.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect(),
    })
}

/// What somebody should look at.
pub fn wrong(fleet: &status::Fleet) -> Vec<String> {
    let problem =
        fleet.problem.as_ref().map(|problem| format!("nothing new is taken from the fleet: {problem}"));
    let notes = fleet.notes.iter().filter(|notes| notes.refused > 0).map(|notes| {
        let more = (notes.refused as usize).saturating_sub(notes.why.len());
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        format!("{} notes of the fleet are not taken: {}{more}", notes.refused, notes.why.join("; "))
    });
    problem.into_iter().chain(fleet.local.clone()).chain(notes).collect()
}

/// Whom a fleet has cut off that agent.toml does not name any more: nobody else ends that.
pub fn left(enforcer: &Enforcer, live: &Live) -> Option<String> {
    if enforcer.setup.config.fleet.is_some() {
        return None;
    }
    let left: Vec<String> = (live.quarantined.0.iter().filter(|entry| entry.fleet.is_some()))
        .map(|entry| entry.subject.clone())
        .collect();
    (!left.is_empty()).then(|| {
        format!(
            "a fleet has cut off {}, and agent.toml has no [fleet] any more: `bulkhead release NODE` ends that",
            left.join(", ")
        )
    })
}
