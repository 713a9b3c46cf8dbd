//! Which generation is meant to run.

use std::time::Duration;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bulkhead_api::history::Origin;
use bulkhead_api::record::Digests;

use crate::config::Mode;
use crate::daemon::files::Files;
use serde::{Deserialize, Serialize};

use crate::daemon::clock::{boot_id, boot_time, wall_time};
use crate::daemon::store::origins::CHANGES;
use crate::daemon::trust::Signed;

/// A deadline to confirm by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Nanoseconds since boot: setting the wall clock must not move it.
    pub until: u64,
    /// The boot meant. After another one the deadline is over.
    pub boot: String,
    /// What `rollback` returned to before the change that waits, and returns to again if that is given up.
    #[serde(default)]
    pub before: Option<u32>,
}

impl Pending {
    /// The deadline of a change that is to be confirmed within seconds from now; none: it stays.
    #[must_use]
    pub fn within(seconds: Option<u64>) -> Option<Self> {
        seconds.map(|seconds| Self {
            until: boot_time().saturating_add(Duration::from_secs(seconds).as_nanos() as u64),
            boot: boot_id(),
            before: None,
        })
    }

    /// Whether a confirmation is due: the time is over, or the machine was restarted without it.
    pub fn is_over(&self) -> bool {
        self.until <= boot_time() || self.boot != boot_id()
    }

    /// Whole seconds until it is over.
    pub fn seconds_left(&self) -> u64 {
        self.until.saturating_sub(boot_time()).div_ceil(1_000_000_000)
    }
}

/// Which generation is meant to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The generation that is enforced.
    pub enforced: u32,
    /// The one to return to by `rollback`: it was confirmed, or needed no confirmation.
    pub previous: Option<u32>,
    /// The one that hooks were being given when this was written. It is completed or undone by
    /// the next start.
    pub target: Option<u32>,
    /// Without a `confirm` until then the previous generation returns.
    pub pending: Option<Pending>,
    /// The staged policy that observes.
    #[serde(default, rename = "shadow")]
    pub staged: Option<u32>,
    /// When another policy, inventory or mode was put in force last, ns since the Unix epoch; 0: not known.
    #[serde(default)]
    pub applied: u64,
    /// The last ones that were given up while they waited for a confirmation.
    #[serde(default)]
    pub lapsed: Vec<u32>,
}

impl Ledger {
    /// Whether the confirmation that it waits for is due.
    pub fn is_unconfirmed(&self) -> bool {
        self.pending.as_ref().is_some_and(Pending::is_over)
    }

    /// Whether nothing is to be enforced any more: the first policy was not confirmed in time.
    pub fn goes_back_to_nothing(&self) -> bool {
        self.previous.is_none() && self.is_unconfirmed()
    }

    /// The generations that hooks may run: the enforced one, and the one that they were being given.
    pub fn generations(&self) -> Vec<u32> {
        [Some(self.enforced), self.target].into_iter().flatten().collect()
    }

    /// What was confirmed last, or needed no confirmation; none: nothing.
    #[must_use]
    pub fn confirmed(&self) -> Option<u32> {
        if self.pending.is_some() { self.previous } else { Some(self.enforced).filter(|number| *number != 0) }
    }

    /// What `rollback` returned to while that was in force; none: there was nothing.
    fn before_confirmed(&self) -> Option<u32> {
        self.pending.as_ref().map_or(self.previous, |pending| pending.before)
    }

    /// The ledger once something else is enforced, by a change or a way back; `is_same` says of a generation whether
    /// that is the same. What to return to is what was confirmed last: never what was given up unconfirmed.
    #[must_use]
    pub fn succeeded(&self, pending: Option<Pending>, is_same: impl Fn(u32) -> bool) -> Self {
        let (confirmed, before) = (self.confirmed(), self.before_confirmed());
        let previous = if pending.is_some() { confirmed } else { other_than(is_same, confirmed, before) };
        let pending = pending.map(|pending| Pending { before, ..pending });
        let mut lapsed = self.lapsed.clone();
        lapsed.extend(self.pending.as_ref().map(|_| self.enforced));
        lapsed.drain(..lapsed.len().saturating_sub(CHANGES));
        Self { previous, pending, applied: wall_time(), lapsed, ..self.clone() }
    }

    /// The ledger once what waits for its confirmation has it; `is_same` says of a generation whether it is the same.
    #[must_use]
    pub fn settled(&self, is_same: impl Fn(u32) -> bool) -> Self {
        let previous = other_than(is_same, self.confirmed(), self.before_confirmed());
        Self { previous, pending: None, ..self.clone() }
    }

    /// The ledger once nothing is enforced any more, since the first policy was not confirmed in time.
    #[must_use]
    pub fn ended(&self) -> Self {
        Self { lapsed: self.succeeded(None, |_| false).lapsed, ..Self::default() }
    }

    /// The time to confirm within begins now; none: nothing waits.
    pub fn begin_wait(&mut self, seconds: Option<u64>) {
        let before = self.pending.as_ref().and_then(|pending| pending.before);
        self.pending = Pending::within(seconds).map(|pending| Pending { before, ..pending });
    }
}

/// The first of two generations, or the second if the first is the same as what is enforced: going there would change
/// nothing.
fn other_than(is_same: impl Fn(u32) -> bool, first: Option<u32>, second: Option<u32>) -> Option<u32> {
    if first.is_some_and(is_same) { second } else { first }
}

/// What a generation was made from, besides its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationMeta {
    /// The policy's path.
    pub policy: PathBuf,
    /// The inventory's path.
    pub inventory: PathBuf,
    /// What its files are; none: an agent that knew no digests has kept them. Of what was read it is what was found.
    #[serde(default)]
    pub digests: Option<Digests>,
    /// Enforce or audit.
    pub mode: Mode,
    /// Fingerprints of the rules that cells name.
    pub fingerprints: Vec<String>,
    /// Who had signed its files when they came to be in force.
    #[serde(default)]
    pub signed: Signed,
    /// How its files came to be in force, in a file of its own; none: not known, or they are staged.
    #[serde(skip)]
    pub origin: Option<Origin>,
}

/// What is in force and not on disk.
#[derive(Debug, Default)]
pub struct Unsaved {
    /// What generations were made from.
    pub generations: BTreeMap<u32, (Files, GenerationMeta)>,
    /// Which generation is meant to run.
    pub ledger: Option<Ledger>,
}

#[cfg(test)]
mod tests {
    use super::{CHANGES, Ledger, Pending};

    /// 5 is enforced in the place of 4, for good or until it is confirmed.
    fn ledger(waits: bool) -> Ledger {
        let pending = Pending::within(Some(600)).filter(|_| waits);
        let pending = pending.map(|pending| Pending { before: Some(3), ..pending });
        Ledger { enforced: 5, previous: Some(4), pending, ..Ledger::default() }
    }

    fn before(ledger: &Ledger) -> Option<u32> {
        ledger.pending.as_ref().and_then(|pending| pending.before)
    }

    #[test]
    fn a_way_back_leads_to_what_was_confirmed() {
        let other = |_| false;
        // What is succeeded; whether the next one waits; what it returns to, then, and what has lapsed.
        let cases = [
            (ledger(false), false, Some(5), None, vec![]),
            (ledger(false), true, Some(5), Some(4), vec![]),
            (ledger(true), false, Some(4), None, vec![5]),
            (ledger(true), true, Some(4), Some(3), vec![5]),
            (Ledger::default(), false, None, None, vec![]),
            (Ledger::default(), true, None, None, vec![]),
        ];
        for (ledger, waits, previous, of_waiting, lapsed) in cases {
            let next = ledger.succeeded(Pending::within(Some(600)).filter(|_| waits), other);
            assert_eq!(
                (next.previous, before(&next), next.pending.is_some(), &next.lapsed),
                (previous, of_waiting, waits, &lapsed),
                "{ledger:?}"
            );
            assert_ne!(next.applied, 0);
        }
    }

    #[test]
    fn what_says_the_same_is_nothing_to_return_to() {
        // What waited is given up for what was confirmed, and the same is applied once more.
        assert_eq!(ledger(true).succeeded(None, |number| number == 4).previous, Some(3));
        assert_eq!(ledger(false).succeeded(None, |number| number == 5).previous, Some(4));
        // It waits for its confirmation, without which it goes back all the same.
        let waiting = ledger(false).succeeded(Pending::within(Some(600)), |number| number == 5);
        assert_eq!(waiting.previous, Some(5));
        assert_eq!(waiting.settled(|number| number == 5).previous, Some(4));
        assert_eq!(waiting.settled(|_| false).previous, Some(5));
    }

    #[test]
    fn a_wait_that_begins_anew_forgets_nothing_and_what_has_lapsed_is_bounded() {
        let mut waiting = ledger(true);
        waiting.begin_wait(Some(60));
        assert_eq!((before(&waiting), waiting.pending.unwrap().seconds_left()), (Some(3), 60));
        assert_eq!(ledger(true).ended(), Ledger { lapsed: vec![5], ..Ledger::default() });
        let many = Ledger { lapsed: (100..200).collect(), ..ledger(true) };
        let lapsed = many.succeeded(None, |_| false).lapsed;
        assert_eq!((lapsed.len(), lapsed.last()), (CHANGES, Some(&5)));
    }
}
