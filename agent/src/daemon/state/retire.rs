//! Generations that no hook runs any more.

use bulkhead_dataplane::{Dataplane, Pins};

use crate::daemon::state::counters;
use crate::daemon::state::counters::Folded;
use crate::daemon::state::generation::LoadedGeneration;
use crate::daemon::store::Store;

/// Folds the counters of every generation but `running` and frees their tables. Only for
/// generations that no hook runs any more.
pub fn retire<D: Dataplane>(pins: &Pins, store: &Store, folded: &mut Folded, running: &LoadedGeneration<D>) {
    let plane = &running.plane;
    let listed = plane.generations(pins).inspect_err(|error| {
        tracing::warn!("old generations stay in memory until the next change: {error}");
    });
    let old: Vec<u32> = listed.unwrap_or_default();
    let old: Vec<u32> = old.into_iter().filter(|other| *other != running.number).collect();
    if old.is_empty() {
        return;
    }
    // A packet may still be under way in an old program.
    if let Err(error) = plane.wait_for_programs() {
        tracing::warn!(
            "the last packets of an old generation may be missing in rule counters: {:#}",
            anyhow::Error::from(error)
        );
    }
    let mut kept = Vec::new();
    for number in &old {
        let Some(made) = store.made_of(*number) else { continue };
        match plane.rule_counters(pins, *number, made.fingerprints.len()) {
            Ok(counters) => {
                // Generations of older map ABIs have none.
                let beginnings =
                    plane.tls_counters(pins, *number, made.fingerprints.len()).unwrap_or_default();
                folded.fold(*number, &made.fingerprints, (&counters, &beginnings));
            }
            Err(error) => tracing::warn!(
                "rule counters of generation {number} are lost: {:#}",
                anyhow::Error::from(error)
            ),
        }
        kept.push(made.fingerprints);
    }
    let mut known: Vec<&[String]> = kept.iter().map(Vec::as_slice).collect();
    known.push(&running.fingerprints);
    folded.keep(&known, &old);
    if let Err(error) = store.save(counters::FILE, folded) {
        tracing::warn!("rule counters may be lost with the agent: {error:#}");
    }
    for number in old {
        if let Err(error) = plane.remove_generation(pins, number) {
            tracing::warn!("generation {number} stays in memory: {:#}", anyhow::Error::from(error));
        }
    }
}
