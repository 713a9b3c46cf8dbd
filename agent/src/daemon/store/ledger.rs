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

/// A deadline to confirm by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Nanoseconds since boot: setting the wall clock must not move it.
    pub until: u64,
    /// The boot meant. After another one the deadline is over.
    pub boot: String,
}

impl Pending {
    /// The deadline of a change that is to be confirmed within seconds from now; none: it stays.
    #[must_use]
    pub fn within(seconds: Option<u64>) -> Option<Self> {
        seconds.map(|seconds| Self {
            until: boot_time().saturating_add(Duration::from_secs(seconds).as_nanos() as u64),
            boot: boot_id(),
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
    /// The one to return to by `rollback`.
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

    /// The ledger once `number` is enforced in the place of this one's. While a change waits for its
    /// confirmation the one before it is what to return to. The staged generation is whatever is built with it.
    #[must_use]
    pub fn succeeded_by(&self, number: u32, pending: Option<Pending>) -> Self {
        let previous = if self.pending.is_some() { self.previous } else { Some(self.enforced) };
        Self { enforced: number, previous, target: None, pending, staged: self.staged, applied: wall_time() }
    }

    /// The ledger once `number` is enforced by a way back. What is left is what to return to; but who has to confirm
    /// the way back returns to what was confirmed, never to what is not.
    #[must_use]
    pub fn returned_by(&self, number: u32, pending: Option<Pending>) -> Self {
        let is_unconfirmed = self.pending.is_some() && pending.is_some();
        let previous = if is_unconfirmed { self.previous } else { Some(self.enforced) };
        Self { previous, ..self.succeeded_by(number, pending) }
    }

    /// The ledger once the same files are enforced as `number`.
    #[must_use]
    pub fn rebuilt_as(&self, number: u32) -> Self {
        Self { enforced: number, target: None, ..self.clone() }
    }
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
