//! What the kernel holds is what was approved: the running tables, read back through their pins, compared with a fresh
//! compile of the recorded files of that generation.
//!
//! The agent looks at intervals; `bulkhead audit live` looks once, with or without an agent.

pub mod ask;
pub mod look;
pub mod record;
pub mod sets;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::event::{self, Action, Altered, Kind};
use bulkhead_api::status::LastLook;
use bulkhead_dataplane::Dataplane;
use bulkhead_policy::held::Comparison;
use rustix::time::{ClockId, clock_gettime};

use crate::daemon::clock::{BootClock, boot_time};
use crate::daemon::enforcement::rebuild;
use crate::daemon::events::control::Change;
use crate::daemon::events::timestamp;
use crate::daemon::log::log_unsaved;
use crate::daemon::setup::Setup;
use crate::daemon::state::generation::LoadedGeneration;
use crate::daemon::state::{Enforcer, held};
use crate::daemon::store::Store;
use look::Moment;
use record::Built;
use sets::{Recorded, Sets};

/// Differences that are named; the others are counted.
pub const NAMED: usize = 100;

/// How often in a row a generation is built anew because of what a look has found. One that differs right after that
/// is told of, and left.
const RESTORES: u32 = 2;

/// Between a look that has found something and the one that is believed.
const SETTLE: Duration = Duration::from_millis(1500);

/// How often a look is begun again because what is enforced was being changed.
const TRIES: u32 = 5;

/// What a look has found.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// When, ns since boot.
    pub at: u64,
    /// The generation that was looked at.
    pub generation: u32,
    /// What differs.
    pub comparison: Comparison,
    /// What it took of a CPU.
    pub cpu: Duration,
    /// The generation that was built in its place because of that.
    pub restored: Option<u32>,
    /// Why there was no look.
    pub failure: Option<String>,
}

/// The agent's looks.
#[derive(Debug, Default)]
pub struct Looks(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: Option<Look>,
    /// The last one that could be taken.
    read: Option<event::ReadBack>,
    /// What was found since the last coverage; none: there was no look.
    since: Option<u64>,
}

impl Looks {
    /// The last one; none yet if the agent has just started, or does not look.
    #[must_use]
    pub fn last(&self) -> Option<Look> {
        held(&self.0).last.clone()
    }

    /// What a coverage has of them: the last one, with what was found since the coverage before.
    pub fn attest(&self) -> Option<event::ReadBack> {
        let mut kept = held(&self.0);
        let since = kept.since.take();
        let read = kept.read.clone()?;
        Some(event::ReadBack { differences: since.unwrap_or(read.differences), ..read })
    }

    fn keep(&self, look: Look) {
        let mut kept = held(&self.0);
        if look.failure.is_none() {
            let differences = look.differences();
            let (time, generation) = (timestamp(look.at), look.generation);
            kept.read = Some(event::ReadBack { time, generation, differences });
            kept.since = Some(kept.since.unwrap_or(0).saturating_add(differences));
        }
        kept.last = Some(look);
    }
}

impl Look {
    /// How many entries differ, named or not.
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.comparison.differences.len() as u64 + self.comparison.omitted
    }

    /// The same as status has it.
    #[must_use]
    pub fn status(&self) -> LastLook {
        let named = self.comparison.differences.iter();
        LastLook {
            time: BootClock::now().rfc3339(self.at),
            generation: self.generation,
            differences: self.differences(),
            meaningless: self.comparison.meaningless,
            first: named.clone().next().map(ToString::to_string),
            cpu_milliseconds: self.cpu.as_millis() as u64,
            restored: self.restored,
            failure: self.failure.clone(),
        }
    }

    /// What is wrong, for status.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(format!("what the kernel holds was not compared with what was approved: {failure}"));
        }
        let count = self.differences();
        let is_open = count != 0 && self.restored.is_none();
        is_open.then(|| {
            let first = self.comparison.differences.first().map(ToString::to_string).unwrap_or_default();
            format!(
                "what the kernel holds is not what was approved: {count} differences, the first: {first}; \
                 `bulkhead audit live` names all"
            )
        })
    }
}

/// Keeps what a generation was built with. Without it there is no look, and the status says so.
pub fn keep_record<D: Dataplane>(store: &Store, setup: &Setup, built: &LoadedGeneration<D>) {
    let staged = built.staged.as_ref().map(|staged| staged.number);
    log_unsaved(store.save_built(built.number, &Built::of(setup, &built.addresses, staged)));
}

/// Looks at intervals, on a thread of its own that gives way to all others.
///
/// # Errors
/// If the system has no more threads.
pub fn start(enforcer: Arc<Enforcer>) -> std::io::Result<()> {
    let seconds = enforcer.setup.config.read_back_seconds;
    if seconds == 0 {
        return Ok(());
    }
    let looks = move || {
        // Of this thread alone. It may not be allowed, which changes nothing but who comes first.
        let _ = rustix::process::nice(19);
        let mut restores = 0;
        loop {
            std::thread::sleep(Duration::from_secs(seconds.into()));
            if enforcer.live().detached {
                return;
            }
            let mut look = take(&enforcer);
            if look.differences() != 0 {
                // A link that somebody took away is put back within a second, and is told of by itself.
                std::thread::sleep(SETTLE);
                look = take(&enforcer);
            }
            if look.differences() == 0 {
                // A look that failed shows nothing.
                if look.failure.is_none() {
                    restores = 0;
                }
            } else {
                tell(&enforcer, &look);
                if restores < RESTORES {
                    restores += 1;
                    look.restored = restore(&enforcer, &look);
                }
            }
            enforcer.looks.keep(look);
        }
    };
    std::thread::Builder::new().name("read-back".to_owned()).spawn(looks).map(drop)
}

/// Takes one look.
fn take(enforcer: &Enforcer) -> Look {
    let cpu = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    let (at, began) = (boot_time(), cpu());
    let found = compare(enforcer);
    let cpu = cpu().saturating_sub(began);
    match found {
        Ok((generation, comparison)) => Look { at, generation, comparison, cpu, ..Look::default() },
        Err(error) => {
            tracing::error!("what the kernel holds is not compared: {error:#}");
            Look { at, cpu, failure: Some(format!("{error:#}")), ..Look::default() }
        }
    }
}

fn compare(enforcer: &Enforcer) -> anyhow::Result<(u32, Comparison)> {
    for _ in 0..TRIES {
        let sets = Sets::compile(recorded(enforcer)?)?;
        // Nobody is cut off or released, and no clock followed, while the tables are read.
        let live = enforcer.live();
        if live.built.number != sets.number || live.mixed || live.built.is_withdrawn() {
            drop(live);
            std::thread::sleep(SETTLE);
            continue;
        }
        let (quarantined, attached) = (live.quarantined.clone(), live.attached.clone());
        let unbound = live.built.unbound();
        let moment = Moment {
            pins: enforcer.pins(),
            quarantined: &quarantined,
            unbound: &unbound,
            attached: &attached,
        };
        let tables = look::read(&sets, &moment)?;
        let programs = look::programs(&sets, &tables, &moment)?;
        drop(live);
        let mut comparison = look::differences(&sets, &tables, NAMED)?;
        comparison.add(programs);
        return Ok((sets.number, comparison));
    }
    anyhow::bail!("a change did not come to its end meanwhile")
}

/// What is in force, as it was kept.
fn recorded(enforcer: &Enforcer) -> anyhow::Result<Recorded> {
    let (number, addresses, staged) = {
        let built = &enforcer.live().built;
        (built.number, built.addresses.clone(), built.staged.as_ref().map(|staged| staged.number))
    };
    // The agent knows what it was told; a disk that has refused that is none of this.
    let built = Built::of(&enforcer.setup, &addresses, staged);
    ask::recorded(&enforcer.store, number, built)
}

/// An event for each difference that is named; the last has the number of the others.
fn tell(enforcer: &Enforcer, look: &Look) {
    let Comparison { differences, omitted, .. } = &look.comparison;
    for (place, difference) in differences.iter().enumerate() {
        tracing::error!("the kernel does not hold what was approved: {difference}");
        let omitted = if place + 1 == differences.len() { *omitted } else { 0 };
        let altered = altered(difference.clone(), look.generation, omitted);
        enforcer.shared.tell(timestamp(look.at), Kind::Altered(Box::new(altered)));
    }
}

fn altered(difference: bulkhead_policy::held::Difference, generation: u32, omitted: u64) -> Altered {
    let bulkhead_policy::held::Difference {
        table,
        entry,
        direction,
        source,
        destination,
        port,
        others,
        expected,
        found,
    } = difference;
    Altered {
        generation,
        table,
        entry,
        direction,
        source,
        destination,
        port,
        others,
        expected,
        found,
        omitted,
    }
}

/// Builds the same files again: new tables and new programs take the place of those that were altered.
fn restore(enforcer: &Enforcer, look: &Look) -> Option<u32> {
    let restored = rebuild::rebuild(enforcer).context("enforcing the recorded files anew");
    match restored {
        Ok(applied) => {
            let why = format!("{} entries were not what was approved", look.differences());
            Change::by_agent(Action::Restore, look.generation, Some(&why)).tell(enforcer);
            tracing::warn!(generation = applied.generation, "the recorded files are enforced anew");
            Some(applied.generation)
        }
        Err(error) => {
            tracing::error!("{error:#}");
            None
        }
    }
}
