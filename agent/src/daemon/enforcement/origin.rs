//! What files would change of what is enforced, and who has asked for that.

use std::time::{Duration, Instant};

use bulkhead_api::event::Action;
use bulkhead_api::history::{Origin, Summary};
use bulkhead_dataplane::Dataplane;
use bulkhead_policy::check::Loaded;
use bulkhead_policy::diff::{Side, diff_within};

use crate::config::Mode;
use crate::daemon::clock::wall_time;
use crate::daemon::files::{Asker, Files};
use crate::daemon::state::Enforcer;
use crate::daemon::state::inputs::{CompileOptions, Inputs};
use crate::daemon::store::GenerationMeta;
use crate::difference;

/// Lines that are told and kept of a change.
const LINES: usize = 200;

/// Pairs of groups of identities that are compared at most: some tenths of a second.
const PAIRS: u64 = 300_000;

/// How long they are compared: whoever waits for the change is not kept from it.
const PATIENCE: Duration = Duration::from_secs(2);

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
    let difference = match enforcer.store.inputs_of(number) {
        Some(before) => difference(before, &enforcer.setup.options, inputs),
        None => {
            let unknown = "flows are not compared: the files of what is enforced are not kept";
            let lines = modes(mode, inputs.mode).into_iter().chain([unknown.to_owned()]).collect();
            Summary { lines, more: 0 }
        }
    };
    let (by, time) = (asker.by.clone(), wall_time());
    inputs.origin = Some(Origin { action, by, time, difference: difference.clone() });
    difference
}

/// What files would change of what is enforced, from its files and what was made of them.
pub fn difference(
    (files, made): (Files, GenerationMeta),
    options: &CompileOptions,
    inputs: &Inputs,
) -> Summary {
    let flows = if files.same_text(&inputs.files) { Vec::new() } else { flows(files, options, inputs) };
    let mut lines: Vec<String> = modes(made.mode, inputs.mode).into_iter().chain(flows).collect();
    let more = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    Summary { lines, more }
}

fn modes(before: Mode, after: Mode) -> Option<String> {
    (before != after).then(|| format!("mode: {} -> {}", before.name(), after.name()))
}

fn flows(before: Files, options: &CompileOptions, inputs: &Inputs) -> Vec<String> {
    let scope = options.scope();
    let old = if before.inventory.text() == inputs.files.inventory.text() {
        Loaded::over(before.policy, &inputs.inventory, &scope)
    } else {
        Loaded::new(before.policy, Some(before.inventory), &scope)
    };
    let (Some(ruleset), Some(inventory)) = (&old.ruleset, &old.inventory) else {
        return vec!["flows are not compared: what is enforced was read by other rules".to_owned()];
    };
    let (old, new) =
        (Side { ruleset, inventory }, Side { ruleset: &inputs.ruleset, inventory: &inputs.inventory });
    let began = Instant::now();
    match diff_within(old, new, wall_time(), PAIRS, &|| began.elapsed() < PATIENCE) {
        Ok(Some(found)) => difference::lines(&found),
        Ok(None) => {
            let seconds = PATIENCE.as_secs();
            vec![format!("flows are not compared: that takes more than {seconds} s; `bulkhead diff` goes on")]
        }
        Err(error) => vec![format!("flows are not compared: {error}; `bulkhead diff` takes longer")],
    }
}
