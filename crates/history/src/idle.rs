//! How long a rule was not used before it is.

use std::collections::HashMap;

use rusqlite::{OptionalExtension as _, params};

use crate::record::{Batch, Verdict};
use crate::write::whole;
use crate::{Error, History};

/// A rule that a batch shows used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedAgain {
    /// Its fingerprint.
    pub fingerprint: String,
    /// When it was used before, or was put in force, if that is later: s since the Unix epoch.
    pub before: u64,
    /// When it is used now: s since the Unix epoch.
    pub now: u64,
}

impl History {
    /// The rules that a batch shows used, by conversations or by counters, at a time (s since the Unix epoch). To be
    /// asked before the batch is written. A rule of which nothing is known yet is none of them.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn used_again(&mut self, batch: &Batch, now: u64) -> Result<Vec<UsedAgain>, Error> {
        let used = self.used(batch, now).map_err(self.refused())?;
        let mut again = Vec::new();
        for (fingerprint, now) in used {
            let known = match self.last_used.get(&fingerprint) {
                Some(before) => Some(*before),
                None => self.before(&fingerprint).map_err(self.refused())?,
            };
            if let Some(before) = known {
                again.push(UsedAgain { fingerprint: fingerprint.clone(), before, now });
            }
            self.last_used.insert(fingerprint, now);
        }
        Ok(again)
    }

    /// Rules that are used, and when last.
    fn used(&self, batch: &Batch, now: u64) -> rusqlite::Result<HashMap<String, u64>> {
        let mut used: HashMap<String, u64> = HashMap::new();
        for (of, seen) in batch.uses.iter().filter(|(of, _)| of.verdict == Verdict::Allowed) {
            if let Some(rule) = &of.rule {
                let last = used.entry(rule.clone()).or_default();
                *last = seen.last.max(*last);
            }
        }
        let mut ask = self.connection.prepare("SELECT packets FROM rules WHERE fingerprint = ?1")?;
        for (fingerprint, packets) in &batch.counters {
            let counted: Option<i64> = ask.query_row([fingerprint], |row| row.get(0)).optional()?;
            // Negative: never counted before, so that when it was counted is not known.
            if counted.is_some_and(|counted| counted >= 0 && counted < whole(*packets)) {
                used.entry(fingerprint.clone()).or_insert(now);
            }
        }
        Ok(used)
    }

    /// When a rule was used last or put in force, by the file.
    fn before(&self, fingerprint: &str) -> rusqlite::Result<Option<u64>> {
        let ask = "
            SELECT max(since, coalesce((SELECT max(last) FROM use_in_all WHERE rule = rules.id AND verdict = ?2), 0))
            FROM rules WHERE fingerprint = ?1";
        let known = self
            .connection
            .query_row(ask, params![fingerprint, Verdict::Allowed as u8], |row| row.get::<_, i64>(0));
        Ok(known.optional()?.map(i64::unsigned_abs))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Batch, DAY, End, History, RuleNote, Use, Verdict};

    /// 1 January 2027, 00:00 UTC.
    const NEW_YEAR: u64 = 1_798_761_600;

    fn used(rule: &str, time: u64) -> Batch {
        let mut batch = Batch { looks: 1, ..Batch::default() };
        let (source, destination) = (End::UNKNOWN, End::UNKNOWN);
        let rule = Some(rule.to_owned());
        batch.add(
            Use { rule, source, destination, port: 22, protocol: 6, verdict: Verdict::Allowed },
            1,
            time,
        );
        batch
    }

    fn take(history: &mut History, batch: &Batch, now: u64) -> Vec<(String, u64)> {
        let again = history.used_again(batch, now).unwrap();
        history.write(batch, now).unwrap();
        again.into_iter().map(|again| (again.fingerprint, (again.now - again.before) / DAY)).collect()
    }

    #[test]
    fn how_long_a_rule_was_idle_is_known_over_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.db");
        let open = || History::open(&path, "db-1", NEW_YEAR).unwrap().0;
        let mut history = open();
        let note = |fingerprint: &str| RuleNote {
            fingerprint: fingerprint.to_owned(),
            number: 1,
            name: None,
            position: None,
        };
        let rules = Some(vec![note("a"), note("b")]);
        let counters = vec![("b".to_owned(), 3)];
        let first = Batch { rules, counters, ..Batch::default() };
        assert_eq!(take(&mut history, &first, NEW_YEAR), []);
        let a = |days: u64| [("a".to_owned(), days)];
        assert_eq!(take(&mut history, &used("a", NEW_YEAR + DAY), NEW_YEAR + DAY), a(1));
        assert_eq!(take(&mut history, &used("a", NEW_YEAR + 2 * DAY), NEW_YEAR + 2 * DAY), a(1));
        drop(history);
        let mut history = open();
        assert_eq!(take(&mut history, &used("a", NEW_YEAR + 102 * DAY), NEW_YEAR + 102 * DAY), a(100));
        // By its counter alone, which has not moved before.
        let counted = |packets| Batch { counters: vec![("b".to_owned(), packets)], ..Batch::default() };
        assert_eq!(take(&mut history, &counted(3), NEW_YEAR + 103 * DAY), []);
        assert_eq!(take(&mut history, &counted(4), NEW_YEAR + 104 * DAY), [("b".to_owned(), 104)]);
        assert_eq!(take(&mut history, &used("unknown", NEW_YEAR), NEW_YEAR), []);
    }
}
