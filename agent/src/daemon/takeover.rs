//! From whatever enforces when the agent starts to its own first generation, without a gap.

use bulkhead::kernel::{Attached, Leftover, Migration, wait_for_programs};

use super::counters::Folded;
use super::live::{Built, retire};
use super::store::Store;

/// Puts the generation on every hook, with the flows that are known. At a first attach, and where
/// another layout tracked them in a way that is not known, those are the host's open connections.
///
/// # Errors
/// If a hook refuses. What enforced before still does, or the new generation.
pub fn attach(migration: &Migration, built: &mut Built, is_first: bool) -> anyhow::Result<Vec<Attached>> {
    let staged = migration.staged();
    tell(migration);
    let must_seed = is_first || migration.loses_flows();
    if must_seed {
        built.seed()?;
    }
    if migration.is_resized() {
        let [flows, refused] = migration.copy_flows(&mut built.importer()?)?;
        tracing::warn!(flows, refused, "another table of flows: the new one takes them along");
    }
    migration.take_links()?;
    let attached = built.attach(&staged)?;
    if must_seed {
        // Again, for connections that were opened since the first time.
        match built.seed() {
            Ok(connections) => {
                tracing::info!(connections, "open connections go on where the policy admits them");
            }
            Err(error) => tracing::warn!("connections opened in the last moment may be cut: {error:#}"),
        }
    }
    Ok(attached)
}

fn tell(migration: &Migration) {
    for version in migration.versions() {
        tracing::warn!(version, "taking over what an agent of another layout enforces");
    }
    let unreadable = migration.unreadable();
    if !unreadable.is_empty() {
        let tables = unreadable.join(", ");
        tracing::warn!("of a layout that this agent does not know, and begun anew: {tables}");
    }
    if migration.loses_flows() {
        tracing::warn!("tracked flows are not known: the host's open TCP connections are taken instead");
    }
}

/// Removes what the earlier agent had, once every hook runs the new generation. What its tables
/// still tell of drops is given back.
///
/// # Errors
/// If the kernel refuses; the next start does the rest.
pub fn finish(
    migration: Migration,
    store: &Store,
    folded: &mut Folded,
    running: &mut Built,
) -> anyhow::Result<Leftover> {
    if !migration.is_needed() {
        return Ok(Leftover::default());
    }
    // A packet may still be under way in an old program.
    wait_for_programs()?;
    for other in migration.others() {
        retire(other, store, folded, running);
    }
    Ok(migration.finish(&mut running.importer()?)?)
}
