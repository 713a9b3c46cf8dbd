//! Access that ends: grants that were handed in, as rules of what is enforced.
//!
//! ```text
//! note ─ verify (people, grantable, time, replay) ─ kept ─┐
//! policy that is about to be enforced ────────────────────┼─ compose ─ compiled, with a deadline each
//! ```
//!
//! Whatever is enforced has the grants that run and that its policy allows: each is verified anew, with its signatures,
//! for every generation. The kernel ends them, whether or not an agent runs. One that is over is remembered until its
//! end, so that nobody hands it in again.

mod change;
mod kept;
mod settle;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use bulkhead_api::event::Expiring;
use bulkhead_api::grant::Entry;
use bulkhead_grants::Note;
use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::diagnostic::{Diagnostic, Findings, Severity};
use bulkhead_policy::policy::compose::{Running, compose, without};
use bulkhead_policy::{inventory, policy};

pub use self::change::{grant, is_full, is_known, is_over, revoke, revoke_by_order};
use self::kept::Kept;
pub use self::settle::settle;
pub use self::verify::approvers;
use self::verify::{Moment, seconds, verify};
use crate::daemon::clock::boot_time;
use crate::daemon::expiry::Ending;
use crate::daemon::files::Files;
use crate::daemon::state::held;
use crate::daemon::store::Store;
use crate::exit::Usage;

/// Grants that run and that are over, in the state directory.
const FILE: &str = "grants.json";

/// Grants that run.
#[derive(Debug)]
pub struct Grants {
    state: Mutex<State>,
    /// Whether anything keeps the wall clock in time.
    is_in_time: fn() -> bool,
    /// When they were read, ns since boot.
    opened: u64,
}

impl Default for Grants {
    fn default() -> Self {
        Self { state: Mutex::default(), is_in_time: settle::is_in_time, opened: boot_time() }
    }
}

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    /// The latest time that was known when they were read, in seconds since 1970.
    at_start: i64,
    /// Why what does not run any more is still among the rules.
    open: Option<String>,
    /// Why grants are in nothing that was compiled last, by their ids.
    refused: BTreeMap<String, String>,
    /// Why none runs and none is taken or revoked: what is on disk is not written over.
    damaged: Option<String>,
    /// The disk has refused what is kept.
    unsaved: bool,
}

impl Grants {
    /// Those that an earlier agent has kept. If they cannot be read none runs: what was revoked is not known.
    #[must_use]
    pub fn open(store: &Store) -> Self {
        let (kept, damaged) = match store.load(FILE) {
            Ok(kept) => (kept.unwrap_or_default(), None),
            Err(error) => {
                let why = unreadable(&error);
                tracing::error!("{why}");
                (Kept::default(), Some(why))
            }
        };
        let state = Mutex::new(State { at_start: kept.latest(), kept, damaged, ..State::default() });
        Self { state, ..Self::default() }
    }

    /// Whether anything keeps the wall clock in time.
    #[must_use]
    pub fn is_in_time(&self) -> bool {
        (self.is_in_time)()
    }

    /// The same on a machine whose clock is kept in time or not.
    #[cfg(test)]
    #[must_use]
    pub fn with_clock(self, is_in_time: fn() -> bool) -> Self {
        Self { is_in_time, ..self }
    }

    /// The same clock.
    #[cfg(test)]
    #[must_use]
    pub fn with_clock_of(self, other: &Self) -> Self {
        self.with_clock(other.is_in_time)
    }

    /// Those that are kept by now, if they are others than these: another agent had the state directory meanwhile.
    #[must_use]
    pub fn reopened(&self, store: &Store) -> Option<Self> {
        let now = Self::open(store);
        let is_same = {
            let (one, other) = (held(&self.state), held(&now.state));
            one.kept == other.kept && one.damaged == other.damaged
        };
        (!is_same).then_some(now)
    }

    /// A time of the wall clock (ns since the Unix epoch), or what it is at least where nothing keeps that in time: a
    /// machine that starts with a clock that is behind lets nothing run that is over.
    #[must_use]
    pub fn known(&self, now: u64) -> u64 {
        let latest = u64::try_from(held(&self.state).at_start).unwrap_or(0).saturating_mul(1_000_000_000);
        if latest <= now || (self.is_in_time)() {
            return now;
        }
        now.max(latest.saturating_add(boot_time().saturating_sub(self.opened)))
    }

    /// Those that a state directory has, at a time in seconds since 1970.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn listed(store: &Store, now: i64) -> anyhow::Result<Vec<Entry>> {
        let kept = store.load::<Kept>(FILE).map_err(|error| anyhow::anyhow!(unreadable(&error)))?;
        Ok(kept.unwrap_or_default().entries(now))
    }

    /// Those that run and those that are remembered, at a time in seconds since 1970.
    #[must_use]
    pub fn entries(&self, now: i64) -> Vec<Entry> {
        let now = now.max(seconds(self.known(u64::try_from(now).unwrap_or(0).saturating_mul(1_000_000_000))));
        held(&self.state).kept.entries(now)
    }

    /// When those that run end.
    #[must_use]
    pub fn endings(&self) -> Vec<Ending> {
        let ending = |(id, until): (String, i64)| {
            let ends = u64::try_from(until).unwrap_or(0).saturating_mul(1_000_000_000);
            Ending { kind: Expiring::Grant, name: id, begins: None, ends }
        };
        held(&self.state).kept.ends().into_iter().map(ending).collect()
    }

    /// Files with the grants that run in their policy, as far as it allows them, and without others. Files that
    /// cannot be understood have none: whoever enforces them says what is wrong.
    #[must_use]
    pub fn add_to(&self, files: Files, scope: &Scope, now: u64) -> Files {
        let base = without(&files.policy).unwrap_or_else(|| files.policy.clone());
        let notes: Vec<String> = held(&self.state).kept.notes();
        let with = |running: &[Running]| {
            let policy = compose(&base, running);
            let named_policy = Some(files.named_policy.clone().unwrap_or_else(|| base.clone()));
            Files { policy, named_policy, ..files.clone() }
        };
        if notes.is_empty() {
            return with(&[]);
        }
        let (allowed, mut refused) = allowed(&notes, &with(&[]), scope.dialect, self.known(now));
        let errors = |running: &[Running]| errors(&with(running), scope, now);
        let found = errors(&allowed);
        // What is wrong without any is no grant's fault.
        let known = if found.is_empty() { BTreeSet::new() } else { errors(&[]) };
        let allowed = if found.is_subset(&known) {
            allowed
        } else {
            let mut fit = Vec::new();
            for running in allowed {
                fit.push(running);
                if let Some(error) = errors(&fit).difference(&known).next()
                    && let Some(unfit) = fit.pop()
                {
                    refused.insert(unfit.id, format!("with it the policy does not hold: {error}"));
                }
            }
            fit
        };
        held(&self.state).refused = refused;
        with(&allowed)
    }

    /// What does not run any more and is still among the rules, for status.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        held(&self.state).open.clone()
    }

    /// What to do where a policy holds without the grants that run, and cannot be built with them.
    #[must_use]
    pub fn no_room(&self) -> Diagnostic {
        let running: Vec<String> = {
            let mut ends = held(&self.state).kept.ends();
            ends.sort_by_key(|(_, until)| *until);
            ends.into_iter().map(|(id, _)| id).collect()
        };
        let count = running.len();
        let first = running.first().map_or("", String::as_str);
        let words = format!(
            "without the {count} grants that run it can be built: `bulkhead revoke` as many as there is no room for, \
             the one that ends first is {first}, and apply it again"
        );
        Diagnostic::global(Severity::Error, words)
    }

    /// Notes why what was compiled last is without any.
    pub fn left_out(&self, why: &str) {
        let mut state = held(&self.state);
        for id in state.kept.missing(&BTreeSet::new()) {
            state.refused.entry(id).or_insert_with(|| why.to_owned());
        }
    }
}

/// What it means that they cannot be read, and what to do.
fn unreadable(error: &anyhow::Error) -> String {
    format!(
        "no grant runs, and none is taken or revoked: {FILE} in the state directory, which says what was revoked, cannot \
         be read ({}); put it back as it was, and start again; moving it away forgets what was revoked and what is \
         over, and every note whose time is not over is taken again",
        error.root_cause()
    )
}

/// Which grants a policy allows, and why it does not allow others.
fn allowed(
    notes: &[String],
    files: &Files,
    dialect: Dialect,
    now: u64,
) -> (Vec<Running>, BTreeMap<String, String>) {
    let mut findings = Findings::default();
    let policy = policy::parse(&files.policy, dialect, &mut findings);
    let inventory = inventory::parse(&files.inventory, &mut findings);
    let (Some(policy), Some(inventory), false) = (policy, inventory, findings.refuse_enforced()) else {
        return (Vec::new(), BTreeMap::new());
    };
    let mut running = Vec::new();
    let mut refused = BTreeMap::new();
    for note in notes {
        // What is kept was read before.
        let Ok(note) = Note::parse(note.as_bytes()) else { continue };
        match verify(&note, (&policy, &inventory, dialect), Moment::Running(now)) {
            Ok(verified) => running.push(verified.running()),
            Err(refusal) => {
                if let Some(id) = refusal.id {
                    refused.insert(id, refusal.why);
                }
            }
        }
    }
    (running, refused)
}

/// What is wrong with files, and does not hold of them.
fn errors(files: &Files, scope: &Scope, now: u64) -> BTreeSet<String> {
    let mut loaded = Loaded::new(files.policy.clone(), Some(files.inventory.clone()), scope);
    loaded.check(now);
    let errors = loaded.findings.0.into_iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|error| error.message).collect()
}

/// Files without the grants that are in their policy; none: there are none.
#[must_use]
pub fn taken_from(files: &Files) -> Option<Files> {
    let policy = without(&files.policy)?;
    Some(Files { policy, ..files.clone() })
}

/// That nobody hands in a policy with grants that no host has verified.
///
/// # Errors
/// If it has the section.
pub fn refuse_section(files: &Files) -> Result<(), Usage> {
    match without(&files.policy) {
        None => Ok(()),
        Some(_) => Err(Usage(format!(
            "{}: the section \"granted\" is the agent's own, which writes it into what it enforces: remove it, and hand \
             grants in by `bulkhead grant`",
            files.policy.name()
        ))),
    }
}
