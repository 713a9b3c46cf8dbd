//! Grants that are handed in, and revoked.

use anyhow::Context as _;
use bulkhead_api::grant::{Answer, Request, Revocation, Standing};
use bulkhead_dataplane::Dataplane;
use bulkhead_grants::{LONGEST, Note, is_id};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::{inventory, policy};

use super::kept::{Held, Kept, MOST, MOST_EARLY};
use super::verify::{Moment, Verified, seconds, verify};
use super::{FILE, Grants};
use crate::daemon::clock::wall_time;
use crate::daemon::enforcement::{change, kept};
use crate::daemon::state::inputs::Inputs;
use crate::daemon::state::{Enforcer, held};
use crate::daemon::store::unsaved::Disk;

/// What of a running agent's problems each compile finds anew.
const FOUND_ANEW: &str = "what is enforced was accepted earlier";

fn grants<D: Dataplane>(enforcer: &Enforcer<D>) -> &Grants {
    &enforcer.setup.options.grants
}

/// Keeps what is in memory. What the disk refuses is tried again by [`settle`](super::settle()).
pub(super) fn save<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    let kept: Kept = {
        let mut state = held(&grants(enforcer).state);
        if let Some(why) = &state.damaged {
            anyhow::bail!("{why}");
        }
        if (grants(enforcer).is_in_time)() {
            state.kept.note_time(seconds(wall_time()));
        }
        state.kept.clone()
    };
    let saved = enforcer.store.save(FILE, &kept);
    held(&grants(enforcer).state).unsaved = saved.is_err();
    saved
}

/// Takes a grant, if its note is one under what is enforced. What is wrong with it is an answer, and changes nothing.
///
/// # Errors
/// If the system refuses; nothing has changed then.
pub fn grant<D: Dataplane>(enforcer: &Enforcer<D>, request: &Request) -> anyhow::Result<Answer> {
    let _one = enforcer.one_change();
    let number = enforcer.live().ledger.enforced;
    let (files, made) = kept::files(enforcer, number)?;
    let verified = match judge(enforcer, &request.note, &files) {
        Ok(verified) => verified,
        Err(why) => return Ok(Answer::no(why)),
    };
    let (id, entry) = (verified.grant.id.clone(), verified.entry());
    let taken = Held { note: request.note.clone(), until: verified.grant.window.until, entry: entry.clone() };
    held(&grants(enforcer).state).kept.insert(taken);
    let give_up = || {
        held(&grants(enforcer).state).kept.remove(&id);
        // It was on disk for a moment at most; the next one is tried.
        let _ = save(enforcer);
    };
    // A restart must know it before anybody is told that it runs.
    save(enforcer).inspect_err(|_| give_up())?;
    let compiled = Inputs::check_kept(files, made.mode, &enforcer.setup.options, wall_time());
    let inputs = match compiled {
        Ok(inputs) if inputs.granted.contains(&id) => inputs,
        Ok(_) => {
            let why = held(&grants(enforcer).state).refused.remove(&id);
            give_up();
            return Ok(Answer::no(why.unwrap_or_else(|| "the policy does not allow it".to_owned())));
        }
        Err(refused) => {
            give_up();
            return Ok(Answer::no(refused.text()));
        }
    };
    let is_it =
        |index: &usize| inputs.ruleset.rules[*index].grant.as_ref().is_some_and(|grant| grant.id == id);
    let number = inputs.program.rules.iter().position(is_it);
    // A rule that others shadow has a number and no cell.
    let decides = number
        .is_some_and(|number| inputs.program.tables.cells.iter().any(|cell| cell.rule as usize == number));
    let none = "no packet of this host is decided by it: this host is neither end, or rules before it decide";
    let notes = if decides { Vec::new() } else { vec![none.to_owned()] };
    let inputs = Inputs { origin: made.origin, signed: made.signed, ..inputs };
    enforce(enforcer, Disk::First, inputs).inspect_err(|_| give_up())?;
    super::settle::alarm(enforcer, &entry, verified.grant.window.until);
    tracing::info!(id, "granted: {}", entry.words());
    Ok(Answer { done: true, grant: Some(entry), notes })
}

fn judge<D: Dataplane>(
    enforcer: &Enforcer<D>,
    note: &str,
    files: &crate::daemon::files::Files,
) -> Result<Verified, String> {
    let note = Note::parse(note.as_bytes()).map_err(|error| error.to_string())?;
    let dialect = enforcer.setup.options.dialect;
    let mut findings = Findings::default();
    let policy = policy::parse(&files.policy, dialect, &mut findings);
    let inventory = inventory::parse(&files.inventory, &mut findings);
    let (Some(policy), Some(inventory)) = (policy, inventory) else {
        return Err("what is enforced cannot be read any more: apply it again".to_owned());
    };
    let verified =
        verify(&note, (&policy, &inventory, dialect), Moment::New(grants(enforcer).known(wall_time())));
    let verified = verified.map_err(|refusal| refusal.why)?;
    let state = held(&grants(enforcer).state);
    if let Some(why) = &state.damaged {
        return Err(why.clone());
    }
    if let Some(why) = state.kept.known(&verified.grant.id) {
        return Err(why);
    }
    if state.kept.is_full() {
        return Err(format!("{MOST} grants run, and no more do at a time: `bulkhead revoke` ends one"));
    }
    Ok(verified)
}

/// Whether a grant runs here, or is over.
pub fn is_known<D: Dataplane>(enforcer: &Enforcer<D>, id: &str) -> bool {
    held(&grants(enforcer).state).kept.known(id).is_some()
}

/// Whether as many run as may.
pub fn is_full<D: Dataplane>(enforcer: &Enforcer<D>) -> bool {
    held(&grants(enforcer).state).kept.is_full()
}

/// Whether a grant is over here, or was revoked before it came.
pub fn is_over<D: Dataplane>(enforcer: &Enforcer<D>, id: &str) -> bool {
    held(&grants(enforcer).state).kept.is_over(id)
}

/// Ends a grant at once, with its sessions, for good. One that has not come yet is refused when it comes.
///
/// # Errors
/// If the system refuses; it is tried again then.
pub fn revoke<D: Dataplane>(enforcer: &Enforcer<D>, request: &Revocation) -> anyhow::Result<Answer> {
    let _one = enforcer.one_change();
    if let Some(why) = &held(&grants(enforcer).state).damaged {
        return Ok(Answer::no(why.clone()));
    }
    let id = &request.id;
    let matching = if id.len() < 6 { Vec::new() } else { held(&grants(enforcer).state).kept.matching(id) };
    match &matching[..] {
        [id] => end(enforcer, id, request.reason.clone()),
        [_, _, ..] => Ok(Answer::no(format!("more than one id begins with {id}: give all of it"))),
        [] if is_id(id) => Ok(refuse(enforcer, id, None)),
        [] => Ok(Answer::no(format!("no grant {id} runs here; `bulkhead grants` lists those that do"))),
    }
}

/// The same by an order of people, which says when the grant ends (seconds since 1970).
///
/// # Errors
/// As there.
pub fn revoke_by_order<D: Dataplane>(
    enforcer: &Enforcer<D>,
    id: &str,
    until: i64,
    reason: &str,
) -> anyhow::Result<Answer> {
    let _one = enforcer.one_change();
    if let Some(why) = &held(&grants(enforcer).state).damaged {
        return Ok(Answer::no(why.clone()));
    }
    let runs = held(&grants(enforcer).state).kept.matching(id).iter().any(|known| known == id);
    if runs { end(enforcer, id, Some(reason.to_owned())) } else { Ok(refuse(enforcer, id, Some(until))) }
}

/// Ends one that runs. The caller holds the one change.
fn end<D: Dataplane>(enforcer: &Enforcer<D>, id: &str, reason: Option<String>) -> anyhow::Result<Answer> {
    let entry = held(&grants(enforcer).state).kept.end(id, Standing::Revoked, reason);
    let entry = entry.context("the grant has just ended")?;
    // On disk first: a start after the one and before the other must not let it run again.
    let unsaved = save(enforcer)
        .err()
        .map(|error| format!("{error:#}: a restart would let it run again; make room, and revoke it again"));
    let enforced = take_out(enforcer);
    super::settle::silence(enforcer, &entry);
    let left = enforced.context("the grant is revoked, and its rule still in force: it is tried again")?;
    tracing::info!(id, "revoked: {}", entry.words());
    Ok(Answer { done: true, grant: Some(entry), notes: unsaved.into_iter().chain(left).collect() })
}

/// Refuses one that has not come, and ends then if that is known.
fn refuse<D: Dataplane>(enforcer: &Enforcer<D>, id: &str, ends: Option<i64>) -> Answer {
    let now = seconds(wall_time());
    let until = ends.unwrap_or_else(|| now.saturating_add(LONGEST.cast_signed()));
    {
        let mut state = held(&grants(enforcer).state);
        if let Some(why) = state.kept.known(id) {
            return Answer::no(why);
        }
        if !state.kept.refuse(id, until, ends.is_some()) {
            return Answer::no(format!(
                "{MOST_EARLY} ids that have not come are refused already: no grant {id} runs here; revoke it when it does"
            ));
        }
        state.kept.forget(now, (grants(enforcer).is_in_time)());
    }
    let unsaved = save(enforcer).err().map(|error| format!("{error:#}: a restart would forget it"));
    let known = "no such grant has come here: it is refused if it comes".to_owned();
    Answer { done: true, grant: None, notes: std::iter::once(known).chain(unsaved).collect() }
}

/// Takes out of force what does not run: what is enforced is built again, or where it cannot be, the rules of what is
/// over end where they are, and what is said is what is left to do. The caller holds the one change.
///
/// # Errors
/// If neither can be done; it is to be tried again. [`Grants::problem`] says so until then.
pub(super) fn take_out<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Option<String>> {
    let Err(error) = enforce_anew(enforcer) else {
        held(&grants(enforcer).state).open = None;
        return Ok(None);
    };
    let ended = end_in_place(enforcer);
    let state = match &ended {
        Ok(true) => "no packet passes by it any more".to_owned(),
        Ok(false) => "it is in force until its end, as another rule ends at the same moment".to_owned(),
        Err(refused) => format!("it is in force until its end: {refused:#}"),
    };
    let words = format!(
        "a grant is over and still among the rules, as what is enforced cannot be built without it; {state}: \
         `bulkhead apply` the policy ({error:#})"
    );
    held(&grants(enforcer).state).open = Some(words.clone());
    if ended.is_ok_and(|ended| ended) { Ok(Some(words)) } else { Err(anyhow::anyhow!(words)) }
}

/// Ends the rules of grants that do not run, in the tables that are in force; false if one of them shares its deadline.
fn end_in_place<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<bool> {
    let mut live = enforcer.live();
    let running: Vec<u64> = {
        let state = held(&grants(enforcer).state);
        let over = state.kept.missing_from(&live.built.granted);
        let of_running = state.kept.ends().into_iter().map(|(_, until)| until);
        let others: Vec<i64> = of_running.collect();
        let shared = over.iter().any(|until| others.contains(until));
        if shared {
            return Ok(false);
        }
        over.into_iter()
            .map(|until| u64::try_from(until).unwrap_or(0).saturating_mul(1_000_000_000))
            .collect()
    };
    if live.built.watched.expiring.iter().any(|(_, expires)| running.contains(expires)) {
        return Ok(false);
    }
    live.built.end_deadlines(&running)?;
    Ok(true)
}

/// Builds what is enforced again with the grants that run. The caller holds the one change.
fn enforce_anew<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    let number = enforcer.live().ledger.enforced;
    let inputs = kept::inputs(enforcer, number, Inputs::check_kept)?;
    // Nobody keeps a grant in force by filling the disk.
    enforce(enforcer, Disk::Follows, inputs)
}

fn enforce<D: Dataplane>(enforcer: &Enforcer<D>, disk: Disk, mut inputs: Inputs) -> anyhow::Result<()> {
    let staged = {
        let live = enforcer.live();
        let found = live.built.problems.iter().filter(|problem| !problem.starts_with(FOUND_ANEW));
        let found: Vec<_> = found.filter(|problem| !inputs.problems.contains(problem)).cloned().collect();
        inputs.problems.extend(found);
        live.ledger.staged
    };
    // What waits for a confirmation goes on to wait.
    change::change(enforcer, disk, inputs, staged, |ledger, _, _| Ok(ledger.clone())).map(drop)
}
