//! Grants as they are kept: those that run with their notes, and those that are over.

use std::collections::BTreeSet;

use bulkhead_api::grant::{Entry, Standing};
use serde::{Deserialize, Serialize};

/// Grants that run at a time: each is a rule, and is verified for every generation.
pub(super) const MOST: usize = 64;

/// How long grants are listed and remembered after their end, in seconds: a clock that is set back by less lets none
/// in again.
const REMEMBERED: i64 = 7 * 86_400;

/// How many that are over are remembered at most.
const MOST_OVER: usize = 4096;

/// How many ids are refused at a time whose grants have not come.
pub(super) const MOST_EARLY: usize = 1024;

/// What the state directory has of grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    running: Vec<Held>,
    over: Vec<Over>,
    /// The latest time that a clock had which was kept in time, in seconds since 1970: no time is before it.
    #[serde(default)]
    latest: i64,
}

/// One that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// The note, whole.
    pub(super) note: String,
    /// Its end, in seconds since 1970.
    pub(super) until: i64,
    /// As it is listed.
    pub(super) entry: Entry,
}

/// One that is over, or was revoked before it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Over {
    id: String,
    until: i64,
    entry: Option<Entry>,
    /// `until` is its end, as whoever revoked it before it came has signed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_ordered: bool,
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

    /// Whether it is over, or was revoked before it came.
    pub(super) fn is_over(&self, id: &str) -> bool {
        self.over.iter().any(|over| over.id == id)
    }

    /// The latest known time.
    pub(super) fn latest(&self) -> i64 {
        self.latest
    }

    /// Notes what time it is, by a clock that is kept in time.
    pub(super) fn note_time(&mut self, now: i64) {
        self.latest = now;
    }

    /// Whether any runs.
    pub(super) fn has_running(&self) -> bool {
        !self.running.is_empty()
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
        self.over.push(Over { id: entry.id.clone(), until, entry: Some(entry.clone()), is_ordered: false });
        Some(entry)
    }

    /// Refuses one that has not come; false if too many are refused so already. They push out nothing. Its end is known if it
    /// is by an order.
    pub(super) fn refuse(&mut self, id: &str, until: i64, is_ordered: bool) -> bool {
        let is_room = self.over.iter().filter(|over| over.entry.is_none()).count() < MOST_EARLY;
        if is_room {
            self.over.push(Over { id: id.to_owned(), until, entry: None, is_ordered });
        }
        is_room
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

    /// The ends of those of these that do not run, as far as they are known.
    pub(super) fn missing_from(&self, in_force: &BTreeSet<String>) -> Vec<i64> {
        self.over.iter().filter(|over| in_force.contains(&over.id)).map(|over| over.until).collect()
    }

    /// Whether one of these does not run, and would be in force.
    pub(super) fn is_too_much(&self, in_force: &BTreeSet<String>, now: i64) -> bool {
        in_force.iter().any(|id| {
            let runs = self.running.iter().any(|held| held.entry.id == *id);
            let over = self.over.iter().find(|over| over.id == *id);
            !runs && over.is_none_or(|over| over.until > now)
        })
    }

    /// Forgets what is long over, and of what is over the oldest of too many, if the clock is kept in time. Whatever may
    /// be good still, and what was revoked before it came, of which nobody knows when it ends, is remembered.
    pub(super) fn forget(&mut self, now: i64, is_in_time: bool) {
        if !is_in_time {
            return;
        }
        let is_over = |over: &Over| (over.entry.is_some() || over.is_ordered) && over.until <= now;
        self.over.retain(|over| !is_over(over) || over.until.saturating_add(REMEMBERED) > now);
        let mut too_many = self.over.len().saturating_sub(MOST_OVER);
        // The oldest are first.
        self.over.retain(|over| {
            let goes = too_many > 0 && is_over(over);
            too_many -= usize::from(goes);
            !goes
        });
    }

    /// All of them that are known, those that run first, with what has become of them by now.
    pub(super) fn entries(&self, now: i64) -> Vec<Entry> {
        let running = self.running.iter().map(|held| {
            let standing = if held.until <= now { Standing::Expired } else { Standing::Running };
            Entry { standing, ..held.entry.clone() }
        });
        running.chain(self.over.iter().rev().filter_map(|over| over.entry.clone())).collect()
    }

    /// The ids of those that run, and their ends.
    pub(super) fn ends(&self) -> Vec<(String, i64)> {
        self.running.iter().map(|held| (held.entry.id.clone(), held.until)).collect()
    }

    /// Those that run as emergencies, with their ends.
    pub(super) fn emergencies(&self) -> Vec<(Entry, i64)> {
        let running = self.running.iter().filter(|held| held.entry.break_glass);
        running.map(|held| (held.entry.clone(), held.until)).collect()
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::grant::{Entry, Standing};

    use super::{Held, Kept, MOST_EARLY, MOST_OVER, REMEMBERED};

    fn end(kept: &mut Kept, id: &str, until: i64) {
        let entry = Entry {
            id: id.to_owned(),
            standing: Standing::Running,
            source: String::new(),
            destination: String::new(),
            protocol: String::new(),
            until: String::new(),
            ticket: String::new(),
            reason: String::new(),
            requester: String::new(),
            approvers: Vec::new(),
            break_glass: false,
            why: None,
        };
        kept.insert(Held { note: String::new(), until, entry });
        assert!(kept.end(id, Standing::Revoked, None).is_some());
    }

    #[test]
    fn time_forgets_what_is_over_and_not_what_was_revoked_before_it_came() {
        let mut kept = Kept::default();
        kept.refuse("early", 10, false);
        kept.refuse("ordered", 10, true);
        end(&mut kept, "short", 10);
        end(&mut kept, "long", 1000);
        let now = 10 + REMEMBERED;
        // A clock that nothing keeps in time may say anything.
        kept.forget(i64::MAX, false);
        kept.forget(now - 1, true);
        assert!(["early", "ordered", "short", "long"].iter().all(|id| kept.known(id).is_some()));
        kept.forget(now, true);
        let known = ["early", "ordered", "short", "long"].map(|id| kept.known(id).is_some());
        assert_eq!(known, [true, false, false, true]);
        kept.forget(i64::MAX, true);
        assert_eq!(["early", "long"].map(|id| kept.known(id).is_some()), [true, false]);
    }

    #[test]
    fn of_what_is_over_the_newest_are_remembered() {
        let mut kept = Kept::default();
        assert!(kept.refuse("early", 10, false));
        for number in 0..=MOST_OVER {
            end(&mut kept, &format!("over-{number}"), 10);
        }
        kept.forget(11, false);
        assert_eq!(kept.over.len(), MOST_OVER + 2, "a clock that nothing keeps in time may say anything");
        kept.forget(11, true);
        assert_eq!(kept.over.len(), MOST_OVER);
        let known = |kept: &Kept, id: &str| kept.known(id).is_some();
        assert!(known(&kept, "early") && known(&kept, &format!("over-{MOST_OVER}")));
        assert!(!known(&kept, "over-0") && !known(&kept, "over-1") && known(&kept, "over-2"));
    }

    #[test]
    fn nothing_that_may_be_good_still_is_forgotten_for_others() {
        let mut kept = Kept::default();
        for number in 0..MOST_OVER + 10 {
            end(&mut kept, &format!("revoked-{number}"), 1000);
        }
        for number in 0..MOST_EARLY {
            assert!(kept.refuse(&format!("early-{number}"), 10, false));
        }
        assert!(!kept.refuse("more", 10, false));
        kept.forget(500, true);
        assert!((0..MOST_OVER + 10).all(|number| kept.known(&format!("revoked-{number}")).is_some()));
        assert!((0..MOST_EARLY).all(|number| kept.known(&format!("early-{number}")).is_some()));
        kept.forget(1000, true);
        assert!((0..MOST_EARLY).all(|number| kept.known(&format!("early-{number}")).is_some()));
        assert!(kept.over.len() <= MOST_OVER);
    }
}
