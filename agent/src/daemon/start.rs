//! What an agent that starts goes on with.
//!
//! A restart changes what is enforced only if what `run` names has changed: it must neither
//! undo an apply of other files nor take up again what was rolled back.

use super::clock::{boot_id, boot_time, wall_time};
use super::inputs::Inputs;
use super::quarantine::{self, List};
use super::setup::Setup;
use super::store::{Pending, Record, Store};

/// How to start.
pub struct Plan {
    /// What to enforce.
    pub inputs: Inputs,
    /// The journal as it is to go on.
    pub record: Record,
    /// Who is cut off.
    pub quarantined: List,
}

/// The candidate that observed, if it still holds.
pub fn candidate(setup: &Setup, store: &Store, record: &mut Record) -> Option<(u32, Inputs)> {
    let number = record.shadow?;
    let Some((files, made)) = store.kept(number) else {
        tracing::warn!("the staged candidate is not kept any more and does not observe");
        record.shadow = None;
        return None;
    };
    match Inputs::compile(files, made.mode, &setup.target) {
        Ok(inputs) => Some((number, inputs)),
        Err(refused) => {
            tracing::warn!(
                "the staged candidate does not hold any more and does not observe\n{}",
                refused.text()
            );
            record.shadow = None;
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

/// Works out how to start, from the journal and the files that `run` names.
///
/// # Errors
/// If the state directory cannot be understood.
pub fn plan(setup: &Setup, store: &Store, named: Inputs) -> anyhow::Result<Plan> {
    let mut record = store.record()?;
    if let Some(target) = record.target.take() {
        tracing::warn!(generation = target, "the last change stopped half-way and is completed");
        record.enforced = target;
    }
    let seen = store.seen();
    let unchanged =
        seen.is_some_and(|(files, mode)| files.same_text(&named.files) && mode == setup.config.mode);
    let choice = choose(&mut record, unchanged);
    let inputs = match choice {
        Choice::Named => named,
        Choice::Kept(number) => go_on_with(setup, store, number, named),
    };
    if choice == Choice::Named {
        tell(store.write_seen(&inputs.files, setup.config.mode));
    }
    let mut quarantined: List = store.load(quarantine::FILE)?.unwrap_or_default();
    for entry in quarantined.remove_ended(wall_time()) {
        tracing::warn!("released {}: its time was over while no agent ran", entry.title());
    }
    Ok(Plan { inputs, record, quarantined })
}

fn choose(record: &mut Record, unchanged: bool) -> Choice {
    if record.enforced == 0 {
        return Choice::Named;
    }
    if let Some(pending) = &record.pending
        && is_over(pending)
    {
        let refused = record.enforced;
        tracing::warn!(generation = refused, "was not confirmed in time");
        record.pending = None;
        if let Some(previous) = record.previous.replace(refused) {
            return Choice::Kept(previous);
        }
        record.previous = None;
    }
    if unchanged {
        return Choice::Kept(record.enforced);
    }
    record.previous = Some(record.enforced);
    record.pending = None;
    Choice::Named
}

fn go_on_with(setup: &Setup, store: &Store, number: u32, named: Inputs) -> Inputs {
    let Some((files, made)) = store.kept(number) else {
        tracing::warn!(generation = number, "its files are not kept; enforcing those that `run` names");
        return named;
    };
    if files.same_text(&named.files) && made.mode == named.mode {
        return named;
    }
    match Inputs::compile(files, made.mode, &setup.target) {
        Ok(inputs) => {
            tracing::warn!(
                generation = number,
                mode = made.mode.name(),
                "going on with its files as they were kept, not with {}; `bulkhead apply` enforces that",
                setup.config.policy.display()
            );
            inputs
        }
        Err(refused) => {
            tracing::warn!(
                generation = number,
                "its files do not hold any more; enforcing those that `run` names\n{}",
                refused.text()
            );
            named
        }
    }
}

/// Whether a confirmation is due: the time is over, or the machine was restarted without it.
pub fn is_over(pending: &Pending) -> bool {
    pending.until <= boot_time() || pending.boot != boot_id()
}

/// Whole seconds until a time in ns since boot.
pub fn seconds_left(until: u64) -> u64 {
    until.saturating_sub(boot_time()).div_ceil(1_000_000_000)
}

/// At the start a disk that refuses must not keep the host unprotected: it is said.
pub fn tell(written: anyhow::Result<()>) {
    if let Err(error) = written {
        tracing::error!("{error:#}; a restart will not know of this");
    }
}

/// Says what failed, and goes on without.
pub fn told<T: Default>(error: impl Into<anyhow::Error>) -> T {
    tracing::error!("{:#}", error.into());
    T::default()
}

#[cfg(test)]
mod tests {
    use super::{Choice, Pending, Record, boot_id, boot_time, choose};

    fn record(pending: Option<Pending>) -> Record {
        Record { enforced: 5, previous: Some(4), target: None, pending, shadow: None }
    }

    fn due_in(nanoseconds: i64, boot: String) -> Option<Pending> {
        Some(Pending { until: boot_time().saturating_add_signed(nanoseconds), boot })
    }

    #[test]
    fn a_restart_goes_on_unless_the_files_have_changed() {
        assert_eq!(choose(&mut Record::default(), false), Choice::Named);
        let mut same = record(None);
        assert_eq!(choose(&mut same, true), Choice::Kept(5));
        assert_eq!(same, record(None));
        let mut changed = record(None);
        assert_eq!(choose(&mut changed, false), Choice::Named);
        assert_eq!(changed.previous, Some(5));
    }

    #[test]
    fn what_was_not_confirmed_is_not_taken_up_again() {
        let mut waiting = record(due_in(60_000_000_000, boot_id()));
        assert_eq!(choose(&mut waiting, true), Choice::Kept(5));
        assert!(waiting.pending.is_some(), "there is time left");
        for pending in [due_in(-1, boot_id()), due_in(60_000_000_000, "another boot".to_owned())] {
            let mut over = record(pending);
            assert_eq!(choose(&mut over, true), Choice::Kept(4));
            assert_eq!((over.pending, over.previous), (None, Some(5)));
        }
    }
}
