//! What files would change of what is enforced, and who has asked for that.

use bulkhead_api::event::Action;
use bulkhead_api::history::{Origin, Summary};
use bulkhead_dataplane::Dataplane;
use bulkhead_policy::check::Loaded;
use bulkhead_policy::diff::{Side, diff_within};

use crate::config::Mode;
use crate::daemon::clock::wall_time;
use crate::daemon::files::Asker;
use crate::daemon::state::Enforcer;
use crate::daemon::state::inputs::{CompileOptions, Inputs};
use crate::daemon::store::Store;
use crate::difference;

/// Lines that are told and kept of a change.
const LINES: usize = 200;

/// Pairs of groups of identities that are compared at most: some tenths of a second.
const PAIRS: u64 = 300_000;

/// Notes who has asked for what is about to be enforced, and what that changes.
pub fn note<D: Dataplane>(
    enforcer: &Enforcer<D>,
    inputs: &mut Inputs,
    action: Action,
    asker: &Asker,
) -> Summary {
    let (number, mode) = {
        let live = enforcer.live();
        (live.ledger.enforced, live.built.mode)
    };
    let difference = difference(&enforcer.store, &enforcer.setup.options, (number, mode), inputs);
    let (by, time) = (asker.by.clone(), wall_time());
    inputs.origin = Some(Origin { action, by, time, difference: difference.clone() });
    difference
}

/// What files would change of what a generation enforces in its mode.
pub fn difference(
    store: &Store,
    options: &CompileOptions,
    (number, mode): (u32, Mode),
    inputs: &Inputs,
) -> Summary {
    let mode = (mode != inputs.mode).then(|| format!("mode: {} -> {}", mode.name(), inputs.mode.name()));
    let flows = match store.inputs_of(number) {
        Some((files, _)) if files.same_text(&inputs.files) => Vec::new(),
        Some((files, _)) => {
            let scope = options.scope();
            let old = Loaded::new(files.policy, Some(files.inventory), &scope);
            match (&old.ruleset, &old.inventory) {
                (Some(ruleset), Some(inventory)) => {
                    let (old, new) = (
                        Side { ruleset, inventory },
                        Side { ruleset: &inputs.ruleset, inventory: &inputs.inventory },
                    );
                    let words = |error| {
                        vec![format!("flows are not compared: {error}; `bulkhead diff` takes longer")]
                    };
                    diff_within(old, new, wall_time(), PAIRS)
                        .map_or_else(words, |found| difference::lines(&found))
                }
                _ => vec!["flows are not compared: what is enforced was read by other rules".to_owned()],
            }
        }
        None => vec!["flows are not compared: the files of what is enforced are not kept".to_owned()],
    };
    let mut lines: Vec<String> = mode.into_iter().chain(flows).collect();
    let more = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    Summary { lines, more }
}
