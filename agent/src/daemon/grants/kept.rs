//! Grants as they are kept: those that run with their notes, and those that are over.

use std::collections::BTreeSet;

use bulkhead_api::grant::{Entry, Standing};
use serde::{Deserialize, Serialize};

/// Grants that run at a time: each is a rule, and is verified for every generation.
pub(super) const MOST: usize = 64;

/// How long grants are listed and remembered after their end, in seconds: a clock that is set back by less lets none
/// in again.
const REMEMBERED: i64 = 7 * 86_400;

/// What the state directory has of grants.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    running: Vec<Held>,
    over: Vec<Over>,
}

/// One that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Held {
    /// The note, whole.
    pub(super) note: String,
    /// Its end, in seconds since 1970.
    pub(super) until: i64,
    /// As it is listed.
    pub(super) entry: Entry,
}

/// One that is over, or was revoked before it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Over {
    id: String,
    until: i64,
    entry: Option<Entry>,
}

impl Kept {
    pub(super) fn notes(&self) -> Vec<String> {
        self.running.iter().map(|held| held.note.clone()).collect()
    }

    pub(super) fn is_full(&self) -> bool {
        self.running.len() >= MOST
    }

    /// Why an id is not taken again, if so.
    pub(super) fn known(&self, id: &str) -> Option<String> {
        if self.running.iter().any(|held| held.entry.id == id) {
            return Some(format!("grant {id} runs already: each note counts once"));
        }
        let over = self.over.iter().find(|over| over.id == id)?;
        let standing = over.entry.as_ref().map_or(Standing::Revoked, |entry| entry.standing);
        Some(format!(
            "grant {id} was {} here, and does not come back: ask for another one",
            match standing {
                Standing::Expired => "over",
                standing => standing.name(),
            }
        ))
    }

    pub(super) fn insert(&mut self, held: Held) {
        self.running.push(held);
    }

    /// Takes one away as if it had never come.
    pub(super) fn remove(&mut self, id: &str) {
        self.running.retain(|held| held.entry.id != id);
    }

    /// The ids of those that run and begin so.
    pub(super) fn matching(&self, id: &str) -> Vec<String> {
        let running = self.running.iter().map(|held| &held.entry.id);
        running.filter(|known| known.starts_with(id)).cloned().collect()
    }

    /// Ends one that runs.
    pub(super) fn end(&mut self, id: &str, standing: Standing, why: Option<String>) -> Option<Entry> {
        let index = self.running.iter().position(|held| held.entry.id == id)?;
        let Held { until, entry, .. } = self.running.remove(index);
        let entry = Entry { standing, why, ..entry };
        self.over.push(Over { id: entry.id.clone(), until, entry: Some(entry.clone()) });
        Some(entry)
    }

    /// Refuses one that has not come.
    pub(super) fn refuse(&mut self, id: &str, until: i64) {
        self.over.push(Over { id: id.to_owned(), until, entry: None });
    }

    /// Those that run and whose time is over.
    pub(super) fn expired(&self, now: i64) -> Vec<String> {
        self.running.iter().filter(|held| held.until <= now).map(|held| held.entry.id.clone()).collect()
    }

    /// Those that run and are none of these.
    pub(super) fn missing(&self, in_force: &BTreeSet<String>) -> Vec<String> {
        let ids = self.running.iter().map(|held| &held.entry.id);
        ids.filter(|id| !in_force.contains(*id)).cloned().collect()
    }

    /// Whether one of these does not run, and would be in force.
    pub(super) fn is_too_much(&self, in_force: &BTreeSet<String>, now: i64) -> bool {
        in_force.iter().any(|id| {
            let runs = self.running.iter().any(|held| held.entry.id == *id);
            let over = self.over.iter().find(|over| over.id == *id);
            !runs && over.is_none_or(|over| over.until > now)
        })
    }

    /// Forgets what is long over.
    pub(super) fn forget(&mut self, now: i64) {
        self.over.retain(|over| over.until.saturating_add(REMEMBERED) > now);
    }

    /// All of them that are known, those that run first, with what has become of them by now.
    pub(super) fn entries(&self, now: i64) -> Vec<Entry> {
        let running = self.running.iter().map(|held| {
            let standing = if held.until <= now { Standing::Expired } else { Standing::Running };
            Entry { standing, ..held.entry.clone() }
        });
        running.chain(self.over.iter().rev().filter_map(|over| over.entry.clone())).collect()
    }

    /// Those that run as emergencies, with their ends.
    pub(super) fn emergencies(&self) -> Vec<(Entry, i64)> {
        let running = self.running.iter().filter(|held| held.entry.break_glass);
        running.map(|held| (held.entry.clone(), held.until)).collect()
    }
}
