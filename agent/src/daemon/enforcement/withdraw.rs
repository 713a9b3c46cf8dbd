//! What a change takes away ends before the next generation is there: to load its programs takes the verifier longer
//! than all else. Nobody who may speak afterwards is kept from it meanwhile.

use bulkhead_dataplane::{Dataplane, QuarantineError};

use crate::config::{Mode, Role};
use crate::daemon::state::Enforcer;
use crate::daemon::state::inputs::Inputs;

/// Takes away from what runs what `next` does not admit. What cannot be taken away now ends with the generation.
pub fn ahead<D: Dataplane>(enforcer: &Enforcer<D>, next: &Inputs) {
    let (bases, inventory, mode) = {
        let built = &enforcer.live().built;
        (built.bases(), built.inventory.clone(), built.mode)
    };
    if mode != Mode::Enforce || next.mode != Mode::Enforce {
        return;
    }
    let rules = |role| match role {
        Role::Overlay => Some(&next.ruleset),
        role => next.others.iter().find(|other| other.role == role).map(|other| &other.ruleset),
    };
    let withdrawn = bases.into_iter().filter_map(|(role, basis)| {
        Some((role, basis.withdrawn(&inventory, (rules(role)?, &next.inventory))))
    });
    let withdrawn: Vec<_> = withdrawn.collect();
    if let Err(error) = enforcer.live().built.withdraw(&withdrawn) {
        tracing::warn!("what the change takes away ends with the generation before it, not at once: {error}");
    }
}

/// The change is not made: what it would have taken away is given back, unless some hooks run the next generation. What
/// cannot be given back is tried again by [`settle`].
pub fn back<D: Dataplane>(enforcer: &Enforcer<D>) {
    if let Err(error) = give_back(enforcer) {
        tracing::error!(
            "what a change that is not made has ended cannot be given back: {error}; trying again"
        );
    }
}

/// Gives back what could not be given back, unless a change is under way.
///
/// # Errors
/// If the kernel refuses.
pub fn settle<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    if !enforcer.live().built.is_withdrawn() {
        return Ok(());
    }
    let Ok(_one) = enforcer.changing.try_lock() else { return Ok(()) };
    Ok(give_back(enforcer)?)
}

fn give_back<D: Dataplane>(enforcer: &Enforcer<D>) -> Result<(), QuarantineError> {
    let mut live = enforcer.live();
    if live.mixed { Ok(()) } else { live.built.give_back() }
}
