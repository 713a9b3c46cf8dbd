//! A policy and an inventory as they were read or sent.

use std::path::{Path, PathBuf};

use bulkhead_api::change::{Change, Text};
use bulkhead_api::event::Actor;
use bulkhead_api::record::Digests;
use bulkhead_api::session::Session;
use bulkhead_policy::source::Source;
use sha2::{Digest as _, Sha256};

use crate::config::Mode;
use crate::daemon::regular;
use crate::exit::Usage;

/// Files as they were read.
#[derive(Clone, Debug)]
pub struct Files {
    /// The policy.
    pub policy: Source,
    /// The inventory.
    pub inventory: Source,
    /// The inventory as it was named, if sources have added to it.
    pub named: Option<Source>,
    /// The policy as it was named, if grants were added to it.
    pub named_policy: Option<Source>,
}

impl Files {
    /// Both, as they were named.
    #[must_use]
    pub fn new(policy: Source, inventory: Source) -> Self {
        Self { policy, inventory, named: None, named_policy: None }
    }

    /// Reads both.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(policy: &Path, inventory: &Path) -> Result<Self, Usage> {
        Self::of(&Asked::default(), policy, inventory)
    }

    /// The files of a change, and of what it has not those that `run` names, which are read.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(asked: &Asked, policy: &Path, inventory: &Path) -> Result<Self, Usage> {
        let one = |asked: &Option<Source>, path| asked.clone().map_or_else(|| regular::read(path), Ok);
        Ok(Self::new(one(&asked.policy, policy)?, one(&asked.inventory, inventory)?))
    }

    /// The same before sources and grants were added to them.
    #[must_use]
    pub fn into_named(mut self) -> Self {
        self.inventory = self.named.take().unwrap_or(self.inventory);
        self.policy = self.named_policy.take().unwrap_or(self.policy);
        self
    }

    /// Whether the texts are the same.
    #[must_use]
    pub fn same_text(&self, other: &Self) -> bool {
        self.policy.text() == other.policy.text() && self.inventory.text() == other.inventory.text()
    }

    /// Their SHA-256, hexadecimal.
    #[must_use]
    pub fn digests(&self) -> Digests {
        Digests { policy: sha256(&self.policy), inventory: sha256(&self.inventory) }
    }

    /// Their paths, as they were given.
    #[must_use]
    pub fn paths(&self) -> (PathBuf, PathBuf) {
        (PathBuf::from(&**self.policy.name()), PathBuf::from(&**self.inventory.name()))
    }
}

/// SHA-256 of a file, hexadecimal.
#[must_use]
pub fn sha256(file: &Source) -> String {
    Sha256::digest(file.text()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A change that is asked for, with the files that were read by who asks.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The policy; none: the one that `run` names.
    pub policy: Option<Source>,
    /// The inventory; none: the one that `run` names.
    pub inventory: Option<Source>,
    /// Enforce or audit; none: as now.
    pub mode: Option<Mode>,
    /// Seconds to confirm within; none: it stays.
    pub confirm: Option<u64>,
    /// Say what it would change, and change nothing.
    pub dry_run: bool,
    /// Who has signed the files, as a note says; none: the one that agent.toml names.
    pub note: Option<String>,
    /// Who asks.
    pub asker: Asker,
}

/// Who asks for a change.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Who it is on record.
    pub by: Actor,
    /// The session that the change must not cut; none: whatever it cuts is meant.
    pub session: Option<Session>,
}

/// The agent itself.
impl Default for Asker {
    fn default() -> Self {
        Self { by: Actor::Agent, session: None }
    }
}

impl Asked {
    /// A change that somebody has sent.
    #[must_use]
    pub fn new(change: Change, by: Actor) -> Self {
        let Change { policy, inventory, note, mode, confirm, dry_run, session } = change;
        let source = |Text { name, text }: Text| Source::new(&name, &text);
        let (policy, inventory) = (policy.map(source), inventory.map(source));
        Self { policy, inventory, note, mode, confirm, dry_run, asker: Asker { by, session } }
    }

    /// The files that `run` names, read anew.
    #[must_use]
    pub fn anew(by: Actor) -> Self {
        Self { asker: Asker { by, session: None }, ..Self::default() }
    }
}
