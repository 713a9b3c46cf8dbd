//! Quarantines that were lifted: they do not come back, whoever carries their notes.

use bulkhead_grants::Order;
use serde::{Deserialize, Serialize};

use crate::daemon::store::Store;

const FILE: &str = "fleet-notes.json";

/// How long one is remembered after the quarantine's own end, in seconds: a clock that is set back by less lets none in.
const REMEMBERED: i64 = 7 * 86_400;

/// How many quarantines without an end are remembered.
const MOST: usize = 4096;

/// What was lifted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Lifted {
    over: Vec<Over>,
    /// No quarantine without an end that began by then is taken, as some that were lifted are not remembered any more;
    /// in seconds since 1970.
    before: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Over {
    id: String,
    /// Whose quarantine it was.
    subject: String,
    /// When its note says that it was lifted.
    lifted: i64,
    until: Option<i64>,
}

impl Lifted {
    /// What an earlier agent has kept.
    pub(in super::super) fn load(store: &Store) -> anyhow::Result<Self> {
        Ok(store.load(FILE)?.unwrap_or_default())
    }

    pub(super) fn save(&self, store: &Store) -> anyhow::Result<()> {
        store.save(FILE, self)
    }

    /// Whether a quarantine was lifted: by a release of the same node, that knows of its end.
    pub(super) fn has(&self, quarantine: &Order) -> bool {
        let ends =
            |over: &Over| over.until.is_none_or(|until| quarantine.until.is_some_and(|end| end <= until));
        let is_it =
            |over: &Over| over.id == quarantine.id && over.subject == quarantine.subject && ends(over);
        self.over.iter().any(is_it) || (quarantine.until.is_none() && quarantine.from <= self.before)
    }

    /// Notes a release; whether it is new.
    pub(super) fn add(&mut self, release: &Order) -> bool {
        let (id, subject) = (release.id.clone(), release.subject.clone());
        let over = Over { id, subject, lifted: release.from, until: release.until };
        if self.over.contains(&over) {
            return false;
        }
        self.over.push(over);
        true
    }

    /// Takes one back, which the disk has not taken.
    pub(super) fn drop_one(&mut self, id: &str) {
        self.over.retain(|over| over.id != id);
    }

    /// Forgets what is long over, by a clock that is kept in time, and of what has no end the oldest of too many.
    pub(super) fn forget(&mut self, now: i64, is_in_time: bool) {
        if is_in_time {
            let stays = |over: &Over| over.until.is_none_or(|until| until.saturating_add(REMEMBERED) > now);
            self.over.retain(stays);
        }
        let endless = self.over.iter().filter(|over| over.until.is_none()).count();
        for _ in MOST..endless {
            if let Some(first) = self.over.iter().position(|over| over.until.is_none()) {
                self.before = self.before.max(self.over.remove(first).lifted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_grants::{Order, OrderKind};

    use super::{Lifted, MOST, REMEMBERED};

    fn order(kind: OrderKind, id: usize, from: i64, until: Option<i64>) -> Order {
        let (subject, ticket, reason) = ("a".to_owned(), "t".to_owned(), "r".to_owned());
        Order { kind, id: format!("{id:032x}"), subject, from, until, ticket, reason }
    }

    #[test]
    fn what_was_lifted_is_remembered_beyond_its_end() {
        let mut lifted = Lifted::default();
        let quarantine = order(OrderKind::Quarantine, 1, 100, Some(200));
        let release = order(OrderKind::Release, 1, 150, Some(200));
        assert!(!lifted.has(&quarantine) && lifted.add(&release) && !lifted.add(&release));
        assert!(lifted.has(&quarantine) && !lifted.has(&order(OrderKind::Quarantine, 2, 160, None)));
        lifted.forget(i64::MAX, false);
        lifted.forget(200 + REMEMBERED - 1, true);
        assert!(lifted.has(&quarantine));
        lifted.forget(200 + REMEMBERED, true);
        assert_eq!(lifted, Lifted::default());
    }

    #[test]
    fn of_too_many_without_an_end_none_comes_back() {
        let mut lifted = Lifted::default();
        for id in 0..MOST + 3 {
            lifted.add(&order(OrderKind::Release, id, 1_000 + id as i64, None));
        }
        lifted.forget(1, true);
        assert_eq!(lifted.over.len(), MOST);
        let is_over = |id: usize, from: i64| lifted.has(&order(OrderKind::Quarantine, id, from, None));
        // Those that are forgotten had begun before they were lifted.
        assert!(is_over(0, 999) && is_over(2, 1_002) && is_over(3, 5_000));
        assert!(!is_over(9_999, 1_003));
    }
}
