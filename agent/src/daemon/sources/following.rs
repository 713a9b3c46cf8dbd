//! The thread that enforces what the sources list now.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::event::{Action, Actor, Outcome};
use bulkhead_api::text::plain;
use bulkhead_dataplane::Dataplane;
use bulkhead_policy::inventory::Inventory;

use super::state::forget_others;
use super::{Fit, asking};
use crate::daemon::alarms::{Cause, Found};
use crate::daemon::enforcement::{change, kept};
use crate::daemon::events::control::{Change, generation};
use crate::daemon::state::inputs::{Inputs, Refused};
use crate::daemon::state::{Enforcer, held};
use crate::daemon::store::unsaved::Disk;

/// Between two looks whether another generation runs; a source that has changed wakes the thread.
const LOOK: Duration = Duration::from_millis(200);

/// After a generation that could not be built.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// How a problem begins that each compile finds anew.
const ACCEPTED_EARLIER: &str = "what is enforced was accepted earlier";

/// Names that are told of a change.
const NAMED: usize = 8;

/// Asks each source, and follows what they answer, on threads of their own.
///
/// # Errors
/// If the system has no more threads.
pub fn start(enforcer: &Arc<Enforcer>) -> anyhow::Result<()> {
    let what = "starting the threads that ask sources";
    if let Some(alarms) = &enforcer.shared.alarms {
        alarms.end_of_sources();
    }
    // Here, where this agent is the only one.
    forget_others(&enforcer.setup.config.sources, &enforcer.store);
    if enforcer.setup.config.sources.is_empty() {
        return Ok(());
    }
    for index in 0..enforcer.setup.config.sources.len() {
        asking::start(enforcer, index).context(what)?;
    }
    let sources = enforcer.setup.sources.clone();
    let enforcer = enforcer.clone();
    let run = move || {
        let mut done = None;
        while !enforcer.live().detached {
            let sources = &enforcer.setup.sources;
            // What ends does so by the clock, whether or not a source can be asked.
            let now = (sources.revision(), sources.ended(), generation(&enforcer));
            if done != Some(now) {
                match follow(&enforcer) {
                    // What was made by it has another number.
                    Ok(()) => {
                        done = Some((now.0, now.1, generation(&enforcer)));
                        tell(&enforcer, None);
                    }
                    Err(error) => {
                        tell(&enforcer, Some(&error));
                        std::thread::park_timeout(AFTER_FAILURE);
                    }
                }
            }
            std::thread::park_timeout(LOOK);
        }
    };
    let thread = std::thread::Builder::new().name("sources".to_owned()).spawn(run).context(what)?;
    // A change before this is seen at the next look.
    let _ = sources.follower.set(thread.thread().clone());
    Ok(())
}

/// Enforces the same policy over what the sources list now, if that is not what is enforced. What waits for a
/// confirmation goes on to wait, and `rollback` returns to where it did.
///
/// # Errors
/// If what they list cannot be enforced, in words that say who is cut off all the same: whoever they do not list any more,
/// or otherwise, unless nothing could be changed.
fn follow<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    match follow_all(enforcer).context("what was enforced before goes on")? {
        Some(refused) => Err(anyhow::anyhow!("whoever changed there is cut off: {}", refused.text())),
        None => Ok(()),
    }
}

/// Why only a part of what they list is enforced, if so.
fn follow_all<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Option<Refused>> {
    let _one = enforcer.one_change();
    let number = enforcer.live().ledger.enforced;
    let (files, made) = kept::files(enforcer, number)?;
    let before = files.inventory.clone();
    if enforcer.setup.sources.add_to(files.clone()).inventory.text() == before.text() {
        return Ok(None);
    }
    let fitted = enforcer.setup.sources.fit(files, made.mode, &enforcer.setup.options);
    let Fit { inputs, unfit } = fitted.map_err(|refused| anyhow::anyhow!(refused.text()))?;
    if inputs.files.inventory.text() != before.text() {
        enforce(enforcer, number, Inputs { origin: made.origin, signed: made.signed, ..inputs })?;
    }
    Ok(unfit)
}

fn enforce<D: Dataplane>(enforcer: &Enforcer<D>, before: u32, mut inputs: Inputs) -> anyhow::Result<()> {
    let (staged, detail) = {
        let live = enforcer.live();
        // What a start has found still holds; whether tests do is known anew.
        let found = live.built.problems.iter().filter(|problem| !inputs.problems.contains(problem));
        let found: Vec<_> = found.filter(|problem| !problem.starts_with(ACCEPTED_EARLIER)).cloned().collect();
        inputs.problems.extend(found);
        (live.ledger.staged, difference(&live.built.inventory, &inputs.inventory))
    };
    // Nobody keeps a node in by filling the disk.
    change::change(enforcer, Disk::Follows, inputs, staged, |ledger, _, _| Ok(ledger.clone()))?;
    let by = Actor::Source { name: enforcer.setup.sources.names() };
    tracing::info!(generation = generation(enforcer), "enforcing what the sources list: {detail}");
    let (outcome, detail) = (Outcome::Done, Some(detail));
    Change { action: Action::Apply, by, before, outcome, subject: None, detail, signers: Vec::new() }
        .tell(enforcer);
    Ok(())
}

/// Tells that what they list cannot be enforced, once for each reason; none: it is.
fn tell(enforcer: &Enforcer, error: Option<&anyhow::Error>) {
    let sources = &enforcer.setup.sources;
    let words = error.map(|error| format!("{error:#}"));
    let before = std::mem::replace(&mut *held(&sources.unfit), words.clone());
    if before == words {
        return;
    }
    let alarms = enforcer.shared.alarms.as_ref();
    let cause = Cause::Source { name: sources.names() + " (all)" };
    match sources.problem() {
        Some(problem) => {
            tracing::error!("{}", plain(&problem));
            alarms.map(|alarms| alarms.raise(&Found::plain(cause, problem)));
        }
        None => alarms.map_or((), |alarms| alarms.end(&Found::plain(cause, String::new()))),
    }
}

/// Who came and went, in words.
fn difference(before: &Inventory, after: &Inventory) -> String {
    let missing = |of: &Inventory, from: &Inventory| {
        let names = of.nodes.iter().filter(|node| from.node(&node.name).is_none());
        names.map(|node| node.name.clone()).collect::<Vec<_>>()
    };
    let said = |what: &str, mut names: Vec<String>| {
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
        (!names.is_empty()).then(|| format!("{what} {}{rest}", names.join(", ")))
    };
    let parts = [said("new:", missing(after, before)), said("gone:", missing(before, after))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "what is known of nodes has changed".to_owned() } else { parts.join("; ") }
}
