//! `[trust]`: who must sign a policy and an inventory before they are enforced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bulkhead_grants::{People, Person, PublicKey};
use serde::Deserialize;
use toml::Spanned;

use crate::input::note_beside;

/// Whose signatures put a policy in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Who they are.
    pub people: People,
    /// How many different ones must have signed.
    pub threshold: usize,
    /// Where the note of the files that `run` names is; none: beside the policy.
    note: Option<PathBuf>,
}

impl Trust {
    /// The same as agent.toml at a path means it.
    pub(super) fn beside(mut self, config: &Path) -> Self {
        self.note = self.note.map(|note| config.parent().unwrap_or(Path::new("")).join(note));
        self
    }

    /// Where the note of the files that `run` names is.
    #[must_use]
    pub fn note(&self, policy: &Path) -> PathBuf {
        self.note.clone().unwrap_or_else(|| note_beside(policy))
    }
}

/// The section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    threshold: Spanned<i64>,
    keys: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    note: Option<PathBuf>,
}

/// What is wrong, and where.
type Problem = (std::ops::Range<usize>, String);

impl Section {
    /// What it says.
    pub(super) fn read(&self) -> Result<Trust, Problem> {
        let mut people = Vec::new();
        for (name, lines) in &self.keys {
            let mut keys = Vec::new();
            for line in lines {
                let key = PublicKey::parse(line.get_ref());
                keys.push(key.map_err(|error| (line.span(), error.to_string()))?);
            }
            people.push(Person { name: name.get_ref().clone(), keys });
        }
        let count = people.len();
        let at = self.threshold.span();
        let people = People::new(people).map_err(|error| (at.clone(), error.to_string()))?;
        let threshold = usize::try_from(*self.threshold.get_ref()).ok();
        let threshold = threshold.filter(|threshold| (1..=count).contains(threshold)).ok_or_else(|| {
            (at, format!("threshold is a whole number from 1 to {count}, how many people [trust.keys] has"))
        })?;
        Ok(Trust { people, threshold, note: self.note.clone() })
    }
}
