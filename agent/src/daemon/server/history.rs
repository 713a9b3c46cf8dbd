//! What was put in force, with files that are kept.

use bulkhead_api::event::{Action, Actor, Timestamp};
use bulkhead_api::history::{Entry, Origin, Standing, Summary};
use bulkhead_api::record::Digests;

use crate::daemon::store::{Ledger, Store};

/// The last changes, the newest first, by the ledger of what is in force.
#[must_use]
pub fn history(store: &Store, ledger: &Ledger) -> Vec<Entry> {
    let mut changes = store.changes();
    let mut returnable = store.returnable(&changes).len();
    let is_listed = changes.iter().any(|(number, _)| *number == ledger.enforced);
    if ledger.enforced != 0 && !is_listed {
        changes.insert(0, (ledger.enforced, unknown(ledger)));
        returnable += 1;
    }
    let entries = changes.into_iter().enumerate().filter_map(|(index, (generation, origin))| {
        let standing = match generation {
            number if number == ledger.enforced && ledger.pending.is_some() => Standing::Unconfirmed,
            number if number == ledger.enforced => Standing::Enforced,
            number if Some(number) == ledger.previous => Standing::Previous,
            _ if index >= returnable => return None,
            number if ledger.lapsed.contains(&number) => Standing::Lapsed,
            _ => Standing::Kept,
        };
        let (_, made) = store.inputs_of(generation)?;
        let Digests { policy, inventory } = made.digests?;
        Some(Entry {
            generation,
            standing,
            applied: Timestamp::from_unix(origin.time).milliseconds(),
            origin,
            mode: made.mode,
            policy: made.policy.display().to_string(),
            inventory: made.inventory.display().to_string(),
            policy_sha256: policy,
            inventory_sha256: inventory,
        })
    });
    entries.collect()
}

/// What there is to say of what is enforced where its record is damaged, or of an agent that kept none.
fn unknown(ledger: &Ledger) -> Origin {
    let lines =
        vec!["how it came to be in force is not known: the record of it is damaged or gone".to_owned()];
    let difference = Summary { lines, more: 0 };
    Origin { action: Action::Start, by: Actor::Agent, time: ledger.applied, difference }
}
