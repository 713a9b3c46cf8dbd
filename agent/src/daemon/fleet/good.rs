//! What of the fleet was found good on this host, by the texts that are kept apart: for a start whose generation is damaged or
//! gone.

use bulkhead_fleet::Repository;

use super::record::Record;
use super::{enforce, local, texts};
use crate::daemon::files::Files;
use crate::daemon::grants;
use crate::daemon::setup::Setup;
use crate::daemon::store::Store;
use crate::daemon::trust::Signed;

/// Files as they were enforced, and which they are. None: nothing was found good, its texts are gone or not what was signed,
/// or generation `number`, which was enforced last, was put in force here in place of the fleet's.
#[must_use]
pub fn good(setup: &Setup, store: &Store, number: u32) -> Option<(Files, Signed)> {
    let record = Record::load(store).ok()??;
    let made = store.made_of(number);
    if made.is_some_and(|made| local::is_local(&made.signed, &record)) {
        return None;
    }
    let bundles = record.good?;
    let text = |of: Repository| texts::get(&setup.paths.state, of, &bundles.get(of).digest);
    let files = enforce::files(&bundles, &text(Repository::Policy)?, &text(Repository::Inventory)?);
    grants::refuse_section(&files).ok()?;
    let (files, _) = enforce::bounded(files, &setup.options, true).ok()?;
    Some((files, Signed { fleet: Some(bundles), ..Signed::default() }))
}
