//! What was put in force, with files that are kept.

use bulkhead_api::event::Timestamp;
use bulkhead_api::history::{Entry, Standing};

use crate::daemon::events::control::digests;
use crate::daemon::store::Store;

/// The last changes, the newest first.
///
/// # Errors
/// If the state directory cannot be read.
pub fn history(store: &Store) -> anyhow::Result<Vec<Entry>> {
    let ledger = store.ledger()?;
    let changes = store.changes();
    let returnable = store.returnable(&changes).len();
    let entries = changes.into_iter().enumerate().filter_map(|(index, (generation, origin))| {
        let standing = match generation {
            number if number == ledger.enforced && ledger.pending.is_some() => Standing::Unconfirmed,
            number if number == ledger.enforced => Standing::Enforced,
            number if Some(number) == ledger.previous => Standing::Previous,
            _ if index < returnable => Standing::Kept,
            _ => return None,
        };
        let (files, made) = store.inputs_of(generation)?;
        let [policy_sha256, inventory_sha256] = digests(&files);
        Some(Entry {
            generation,
            standing,
            applied: Timestamp::from_unix(origin.time).milliseconds(),
            origin,
            mode: made.mode,
            policy: made.policy.display().to_string(),
            inventory: made.inventory.display().to_string(),
            policy_sha256,
            inventory_sha256,
        })
    });
    Ok(entries.collect())
}
