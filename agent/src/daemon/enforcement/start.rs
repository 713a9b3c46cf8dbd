//! What an agent that starts goes on with.
//!
//! A restart changes what is enforced only if what `run` names has changed: it must neither
//! undo an apply of other files nor take up again what was rolled back.

use bulkhead_api::event::{Action, Actor};
use bulkhead_api::history::Origin;
use bulkhead_dataplane::Dataplane;
use bulkhead_policy::source::Source;

use crate::config::Mode;
use crate::daemon::clock::wall_time;
use crate::daemon::enforcement::origin;
use crate::daemon::files::Files;
use crate::daemon::fleet;
use crate::daemon::grants;
use crate::daemon::log::log_unsaved;
use crate::daemon::quarantine::list::{self, List};
use crate::daemon::regular;
use crate::daemon::setup::Setup;
use crate::daemon::sources::Fit;
use crate::daemon::state::in_place;
use crate::daemon::state::inputs::{Inputs, Refused};
use crate::daemon::store::{Ledger, Pending, Store};
use crate::daemon::trust::{self, Signed};
use crate::diagnostics;
use crate::exit::{Answer, Usage};

/// How to start.
pub struct Plan {
    /// What to enforce.
    pub inputs: Inputs,
    /// The ledger as it is to go on.
    pub ledger: Ledger,
    /// Who is cut off.
    pub quarantined: List,
    /// It is what `run` names, and was not enforced before.
    pub is_named: bool,
}

/// What `run` names, and whether it may be enforced.
pub enum Named {
    /// It holds.
    Holds(Inputs),
    /// It does not, or is not asked for: the enforced generation as it was kept, and what to tell of that.
    Refused(Inputs, Option<String>),
    /// What was enforced is damaged or gone: what the fleet had signed, or what admits nobody.
    Restored(Inputs),
}

impl Named {
    /// What there is to enforce.
    pub fn inputs(&self) -> &Inputs {
        match self {
            Self::Holds(inputs) | Self::Refused(inputs, _) | Self::Restored(inputs) => inputs,
        }
    }
}

/// Why what `run` names cannot be enforced.
pub enum Unfit {
    /// A file cannot be read, or is not signed as agent.toml asks for.
    Unreadable(Usage),
    /// The policy or the inventory is invalid.
    Refused(Refused),
}

impl Unfit {
    fn text(&self) -> String {
        match self {
            Self::Unreadable(error) => error.to_string(),
            Self::Refused(refused) => refused.text(),
        }
    }

    /// The command's error or answer.
    ///
    /// # Errors
    /// If a file cannot be read, or the inventory has no such node.
    pub fn end(self, json: bool) -> anyhow::Result<Answer> {
        match self {
            Self::Unreadable(error) => Err(error.into()),
            Self::Refused(Refused { findings, unknown_node: true, .. }) => {
                let words = findings.0.last().map(|finding| finding.message.clone()).unwrap_or_default();
                Err(Usage(words).into())
            }
            Self::Refused(refused) => {
                diagnostics::print(&refused.findings, &refused.sources, json);
                Ok(Answer::No)
            }
        }
    }
}

/// Whether what a start goes by can be read: which generation is meant to run, and who is cut off.
///
/// # Errors
/// What is damaged, and what to do. Without it nobody knows what was confirmed, or whom a start would let in again.
pub fn readable(store: &Store) -> anyhow::Result<()> {
    store.ledger()?;
    store.load::<List>(list::FILE)?;
    Ok(())
}

/// Reads and checks what `run` names.
///
/// # Errors
/// Why it cannot be enforced.
pub fn read(setup: &Setup) -> Result<Inputs, Unfit> {
    let (policy, inventory) = setup.files();
    let files = Files::read(&policy, &inventory).map_err(Unfit::Unreadable)?;
    grants::refuse_section(&files).map_err(Unfit::Unreadable)?;
    let (signed, _) = trust::signed(&setup.config, &files, None).map_err(Unfit::Unreadable)?;
    let files = setup.sources.add_to(files);
    let inputs =
        Inputs::check(files, setup.config.mode, &setup.options, wall_time()).map_err(Unfit::Refused)?;
    Ok(Inputs { signed, ..inputs })
}

/// What was enforced last, as it was kept, for a start whose policy or inventory is invalid. `None` if there is
/// nothing, or it was not confirmed in time.
pub fn instead(setup: &Setup, store: &Store, unfit: &Unfit) -> Option<Named> {
    let inputs = kept(setup, store)?;
    let policy = setup.config.policy.display();
    tracing::error!("{policy} cannot be enforced: going on with what was kept\n{}", unfit.text());
    let problem = format!(
        "what `run` names ({policy}) cannot be enforced, and what was enforced last goes on as it was kept; \
         `bulkhead check` says why, and `bulkhead apply` enforces it once it holds"
    );
    Some(Named::Refused(inputs, Some(problem)))
}

/// What was enforced last, for a start on a host that has taken something from its fleet: what `run` names is not looked at
/// any more, changed or not. Where that is damaged or gone, what the fleet had signed, which is kept apart; where that is,
/// too, what admits nobody. None: the host has taken nothing.
pub fn of_fleet(setup: &Setup, store: &Store) -> Option<Result<Named, Unfit>> {
    if !fleet::has_taken(setup, store) {
        return None;
    }
    let is_way_back_lost = store.ledger().is_ok_and(|ledger| {
        ledger.is_unconfirmed() && ledger.previous.is_some_and(|number| store.inputs_of(number).is_none())
    });
    let kept = kept(setup, store).filter(|_| !is_way_back_lost);
    Some(kept.map_or_else(|| restored(setup, store), |inputs| Ok(Named::Refused(inputs, None))))
}

/// What is wrong where [`restored`] is enforced.
const DAMAGED: &str =
    "the files of what was enforced last are damaged or gone, or do not compile here any more";

/// A policy that admits nobody.
const NOBODY: &str = r#"{"acls": []}"#;

/// What stands in for what was enforced: never what `run` names, which may open what the fleet has closed.
fn restored(setup: &Setup, store: &Store) -> Result<Named, Unfit> {
    let ledger = store.ledger().unwrap_or_default();
    let number = ledger.target.unwrap_or(ledger.enforced);
    let mode = store.made_of(number).map_or(setup.config.mode, |made| made.mode);
    let (mut lists, mut why) = (Vec::new(), None);
    if let Some((files, signed)) = fleet::good(setup, store, number) {
        lists.push(files.inventory.clone());
        match fitted(setup, files, mode) {
            Ok(inputs) => {
                let name = signed.fleet.as_ref().map(fleet::Bundles::name).unwrap_or_default();
                return Ok(told(Inputs { signed, ..inputs }, &format!("the fleet's {name} is enforced")));
            }
            Err(refused) => why = Some(Unfit::Refused(refused)),
        }
    }
    // Who there is opens nothing where nobody is admitted.
    match regular::read(&setup.files().1) {
        Ok(named) => lists.push(named),
        Err(error) => why = why.or(Some(Unfit::Unreadable(error))),
    }
    for inventory in lists {
        match fitted(setup, Files::new(Source::new("nobody is admitted", NOBODY), inventory), mode) {
            Ok(inputs) => return Ok(told(inputs, "nobody is admitted")),
            Err(refused) => why = Some(Unfit::Refused(refused)),
        }
    }
    let words = why.map(|why| why.text()).unwrap_or_default();
    Err(Unfit::Unreadable(Usage(format!("{DAMAGED}, and nothing can stand in for it: {words}"))))
}

fn told(mut inputs: Inputs, what: &str) -> Named {
    tracing::error!("{DAMAGED}: {what}");
    inputs.problems.push(format!("{DAMAGED}: {what}"));
    Named::Restored(inputs)
}

/// What was enforced last, as it was kept.
fn kept(setup: &Setup, store: &Store) -> Option<Inputs> {
    let ledger = store.ledger().ok()?;
    if ledger.goes_back_to_nothing() {
        return None;
    }
    let number = ledger.target.unwrap_or(ledger.enforced);
    let (files, made) = store.inputs_of(number)?;
    let inputs = fitted(setup, files, made.mode).ok()?;
    Some(Inputs { signed: made.signed, ..inputs })
}

/// Files that were enforced before. What the sources list may be why they cannot be; who is gone stays cut off.
fn fitted(setup: &Setup, files: Files, mode: Mode) -> Result<Inputs, Refused> {
    let fitted = setup.sources.fit(files.clone(), mode, &setup.options).map(|fit| fit.inputs);
    fitted.or_else(|refused| as_kept(setup, files, mode, &refused))
}

/// Files as they were kept, with the nodes that the sources listed then: for a start that would enforce nothing otherwise.
fn as_kept(setup: &Setup, files: Files, mode: Mode, refused: &Refused) -> Result<Inputs, Refused> {
    let mut inputs = Inputs::check_kept(files, mode, &setup.options, wall_time())?;
    tracing::error!("what the sources list cannot be enforced\n{}", refused.text());
    inputs.problems.push(
        "nothing of what the sources list now could be enforced at the start, which goes on with whom they listed before"
            .to_owned(),
    );
    Ok(inputs)
}

/// Ends what an agent that is gone enforces, if that was the first policy and was not confirmed in
/// time: nothing was enforced before it. Whether it has.
///
/// # Errors
/// If it cannot be ended, or the state directory cannot be understood.
pub fn goes_back_to_nothing(plane: &impl Dataplane, setup: &Setup, store: &Store) -> anyhow::Result<bool> {
    let ledger = store.ledger()?;
    let is_due = ledger.goes_back_to_nothing();
    if !is_due || plane.pinned_links(&setup.paths.pins)?.is_empty() {
        return Ok(false);
    }
    // The guard first: without programs it would drop everything.
    if setup.config.guard {
        setup.fallback.remove(&setup.instance)?;
    }
    plane.detach(&setup.paths.pins)?;
    in_place::forget(&setup.paths.socket);
    log_unsaved(store.write_ledger(&ledger.ended()));
    tell_nothing_is_enforced();
    Ok(true)
}

/// Says why the agent ends.
pub fn tell_nothing_is_enforced() {
    tracing::error!(
        "the first policy was not confirmed in time: nothing is enforced, as before it; fix the policy and run again"
    );
}

/// The staged policy that observed, if it still holds.
pub fn staged(setup: &Setup, store: &Store, ledger: &mut Ledger) -> Option<(u32, Inputs)> {
    let number = ledger.staged?;
    let Some((files, made)) = store.inputs_of(number) else {
        tracing::warn!("the staged policy is not kept any more and does not observe");
        ledger.staged = None;
        return None;
    };
    match Inputs::compile(files, made.mode, &setup.options) {
        Ok(inputs) => Some((number, inputs)),
        Err(refused) => {
            tracing::warn!("the staged policy no longer compiles and does not observe\n{}", refused.text());
            ledger.staged = None;
            None
        }
    }
}

/// Which files the start goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// Those that `run` names.
    Named,
    /// Those of a generation, as they were kept.
    Kept(u32),
}

/// Works out how to start, from the ledger and the files that `run` names.
///
/// # Errors
/// If the state directory cannot be understood.
pub fn plan(setup: &Setup, store: &Store, named: Named) -> anyhow::Result<Plan> {
    let is_restored = matches!(named, Named::Restored(_));
    let (named, is_kept, problem) = match named {
        Named::Holds(inputs) => (inputs, false, None),
        Named::Refused(inputs, problem) => (inputs, true, problem),
        Named::Restored(inputs) => (inputs, true, None),
    };
    let mut ledger = store.ledger()?;
    if let Some(target) = ledger.target.take() {
        tracing::warn!(generation = target, "resuming interrupted update");
        ledger.enforced = target;
    }
    let seen = store.last_requested(&ledger);
    let is_as_seen = || {
        seen.is_some_and(|(files, mode)| {
            files.same_text(&named.files.clone().into_named()) && mode == setup.config.mode
        })
    };
    // What stands in for a generation becomes one, to which another can return.
    let unchanged = !is_restored && (is_kept || is_as_seen());
    let before = ledger.enforced;
    let choice = choose(&ledger, unchanged);
    let mut action = if choice == Choice::Named { Action::Start } else { Action::Rollback };
    let mut inputs = match choice {
        Choice::Named => named,
        Choice::Kept(number) => {
            let (mut inputs, lost) = go_on_with(setup, store, number, named);
            if let Some(why) = lost {
                let instead = inputs.files.policy.name().clone();
                tracing::warn!(generation = number, "{why}; enforcing {instead}");
                action = Action::Start;
                // Which may be the very policy that nobody has confirmed.
                inputs
                    .problems
                    .extend((number != before).then(|| no_way_back(before, number, &why, &instead)));
            }
            inputs
        }
    };
    let is_named = choice == Choice::Named && !is_kept;
    if choice != Choice::Kept(before) {
        inputs.origin = Some(origin(setup, store, (before, action), &inputs));
        let pending = Pending::within(setup.confirm).filter(|_| is_named);
        ledger = ledger.succeeded(pending, |number| store.is_same(number, &inputs.made()));
    }
    inputs.problems.extend(problem);
    let mut quarantined: List = store.load(list::FILE)?.unwrap_or_default();
    for entry in quarantined.remove_ended(wall_time()) {
        tracing::warn!("released {}: its time was over while no agent ran", entry.title());
    }
    Ok(Plan { inputs, ledger, quarantined, is_named })
}

/// How other files than before come to be in force by a start.
fn origin(setup: &Setup, store: &Store, (before, action): (u32, Action), inputs: &Inputs) -> Origin {
    let compare = |before| origin::difference(before, &setup.options, inputs);
    let difference = store.inputs_of(before).map(compare).unwrap_or_default();
    Origin { action, by: Actor::Agent, time: wall_time(), difference }
}

fn choose(ledger: &Ledger, unchanged: bool) -> Choice {
    if ledger.is_unconfirmed() {
        tracing::warn!(generation = ledger.enforced, "was not confirmed in time");
        // The first one is detached by now.
        return ledger.previous.map_or(Choice::Named, Choice::Kept);
    }
    if unchanged && ledger.enforced != 0 { Choice::Kept(ledger.enforced) } else { Choice::Named }
}

/// What to say where an unconfirmed generation has nothing to go back to.
fn no_way_back(refused: u32, number: u32, why: &str, instead: &str) -> String {
    format!(
        "generation {refused} was not confirmed in time, and generation {number} cannot be returned to ({why}): {instead} \
         is enforced, confirmed or not; apply what is to be enforced"
    )
}

/// What a generation was made from; or what is named, if that has to do, and why.
fn go_on_with(setup: &Setup, store: &Store, number: u32, named: Inputs) -> (Inputs, Option<String>) {
    let Some((files, made)) = store.inputs_of(number) else {
        return (named, Some("its files are damaged or gone".to_owned()));
    };
    let (origin, signed) = (made.origin, made.signed);
    // What is granted is the same in both by now.
    let with_grants = |files| setup.options.grants.add_to(files, &setup.options.scope(), wall_time());
    if with_grants(setup.sources.add_to(files.clone())).same_text(&named.files) && made.mode == named.mode {
        // Who has signed by now counts, if the same was in force before anybody asked.
        let signed = if named.signed.signers.is_empty() {
            signed
        } else {
            Signed { aside: signed.aside, ..named.signed.clone() }
        };
        return (Inputs { origin, signed, ..named }, None);
    }
    match setup.sources.fit(files, made.mode, &setup.options) {
        Ok(Fit { inputs, .. }) => {
            tracing::warn!(
                generation = number,
                mode = made.mode.name(),
                "going on with its files as they were kept, not with {}; `bulkhead apply` enforces that",
                setup.config.policy.display()
            );
            (Inputs { origin, signed, ..inputs }, None)
        }
        Err(refused) => (named, Some(format!("its files no longer compile: {}", refused.text().trim_end()))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Choice, Ledger, Pending, choose};
    use crate::daemon::clock::{boot_id, boot_time};

    fn ledger(pending: Option<Pending>) -> Ledger {
        Ledger { enforced: 5, previous: Some(4), pending, ..Ledger::default() }
    }

    fn due_in(nanoseconds: i64, boot: String) -> Option<Pending> {
        let until = boot_time().saturating_add_signed(nanoseconds);
        Some(Pending { until, boot, before: Some(3) })
    }

    #[test]
    fn a_restart_goes_on_unless_the_files_have_changed() {
        assert_eq!(choose(&Ledger::default(), false), Choice::Named);
        assert_eq!(choose(&Ledger::default(), true), Choice::Named);
        assert_eq!(choose(&ledger(None), true), Choice::Kept(5));
        assert_eq!(choose(&ledger(None), false), Choice::Named);
    }

    #[test]
    fn a_first_policy_that_was_not_confirmed_is_not_what_a_start_goes_on_with() {
        let first = Ledger { previous: None, ..ledger(due_in(-1, boot_id())) };
        assert_eq!(choose(&first, true), Choice::Named);
    }

    #[test]
    fn what_was_not_confirmed_is_not_taken_up_again() {
        let waiting = ledger(due_in(60_000_000_000, boot_id()));
        assert_eq!((choose(&waiting, true), choose(&waiting, false)), (Choice::Kept(5), Choice::Named));
        for pending in [due_in(-1, boot_id()), due_in(60_000_000_000, "another boot".to_owned())] {
            let over = ledger(pending);
            assert_eq!((choose(&over, true), choose(&over, false)), (Choice::Kept(4), Choice::Kept(4)));
        }
    }
}
