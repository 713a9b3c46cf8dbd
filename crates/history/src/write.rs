//! One transaction a batch.

use std::collections::{HashMap, HashSet};

use rusqlite::{Transaction, params};

use crate::record::{Batch, End, RuleNote, Use, Verdict};
use crate::{Error, History, day};

const BY_DAY: &str = "
    INSERT INTO use_by_day VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
    ON CONFLICT DO UPDATE SET count = count + excluded.count, last = max(last, excluded.last)";

const IN_ALL: &str = "
    INSERT INTO use_in_all VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
    ON CONFLICT DO UPDATE SET count = count + excluded.count, first = min(first, excluded.first),
        last = max(last, excluded.last)";

impl History {
    /// Writes a batch at a time (s since the Unix epoch): all of it or nothing.
    ///
    /// # Errors
    /// The disk or SQLite refuses; then nothing of it is written, and the same batch can be written later.
    pub fn write(&mut self, batch: &Batch, now: u64) -> Result<(), Error> {
        let refused = self.refused();
        let transaction = self.connection.transaction().map_err(&refused)?;
        let used = used(batch).map(str::to_owned).collect();
        write(&transaction, batch, &self.used_before, now)
            .and_then(|()| transaction.commit())
            .map_err(refused)?;
        self.used_before = used;
        Ok(())
    }
}

/// Rules that were used in a batch.
fn used(batch: &Batch) -> impl Iterator<Item = &str> {
    batch.uses.keys().filter(|of| of.verdict.is_use()).filter_map(|of| of.rule.as_deref())
}

fn write(
    transaction: &Transaction<'_>,
    batch: &Batch,
    used_before: &HashSet<String>,
    now: u64,
) -> rusqlite::Result<()> {
    if let Some(rules) = &batch.rules {
        note_rules(transaction, rules, now)?;
    }
    let mut unknown = HashMap::new();
    note_counters(transaction, batch, used_before, now, &mut unknown)?;
    let mut ids = Ids::default();
    let uses =
        batch.uses.iter().map(|(of, seen)| (of, *seen)).chain(unknown.iter().map(|(of, seen)| (of, *seen)));
    let mut by_day = transaction.prepare(BY_DAY)?;
    let mut in_all = transaction.prepare(IN_ALL)?;
    for (of, seen) in uses {
        let rule = ids.rule(transaction, of.rule.as_deref(), now)?;
        let (source, destination) =
            (ids.end(transaction, &of.source)?, ids.end(transaction, &of.destination)?);
        let (port, protocol, verdict) = (of.port, of.protocol, of.verdict as u8);
        let (count, last) = (whole(seen.count), whole(seen.last));
        let day = day(seen.last);
        by_day.execute(params![day, rule, source, destination, port, protocol, verdict, count, last])?;
        in_all.execute(params![rule, source, destination, port, protocol, verdict, count, last])?;
    }
    let looked = "INSERT INTO days VALUES (?1, ?2) ON CONFLICT DO UPDATE SET looks = looks + excluded.looks";
    transaction.execute(looked, params![day(now), whole(batch.looks)])?;
    Ok(())
}

/// SQLite's whole numbers have a sign.
pub(crate) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Notes which rules are in force. One that comes back begins anew: it was not there to be used meanwhile.
fn note_rules(transaction: &Transaction<'_>, rules: &[RuleNote], now: u64) -> rusqlite::Result<()> {
    // 2: in force until just now.
    transaction.execute("UPDATE rules SET in_force = 2 WHERE in_force = 1", [])?;
    let mut note = transaction.prepare(
        "INSERT INTO rules (fingerprint, number, name, position, since, in_force, packets)
            VALUES (?1, ?2, ?3, ?4, ?5, 1, -1)
         ON CONFLICT (fingerprint) DO UPDATE SET number = excluded.number, name = excluded.name,
            position = excluded.position, in_force = 1,
            since = CASE in_force WHEN 0 THEN excluded.since ELSE since END",
    )?;
    for RuleNote { fingerprint, number, name, position } in rules {
        note.execute(params![fingerprint, number, name, position, whole(now)])?;
    }
    transaction.execute("UPDATE rules SET in_force = 0 WHERE in_force = 2", [])?;
    Ok(())
}

/// A rule whose counter has moved while nobody was seen to use it was used, by whom is not known. Packets of a flow that
/// was seen in the batch before may have been counted since.
fn note_counters(
    transaction: &Transaction<'_>,
    batch: &Batch,
    used_before: &HashSet<String>,
    now: u64,
    unknown: &mut HashMap<Use, crate::Seen>,
) -> rusqlite::Result<()> {
    let seen: HashSet<&str> = used(batch).chain(used_before.iter().map(String::as_str)).collect();
    let mut ask = transaction.prepare("SELECT packets FROM rules WHERE fingerprint = ?1")?;
    let mut put = transaction.prepare("UPDATE rules SET packets = ?2 WHERE fingerprint = ?1")?;
    for (fingerprint, packets) in &batch.counters {
        let before: i64 = match ask.query_row([fingerprint], |row| row.get(0)) {
            Err(rusqlite::Error::QueryReturnedNoRows) => continue,
            before => before?,
        };
        let packets = whole(*packets);
        if packets == before {
            continue;
        }
        put.execute(params![fingerprint, packets])?;
        // The first that is known of it: when that was counted nobody knows.
        if before < 0 {
            continue;
        }
        // Counters begin anew with the host.
        let moved = if packets > before { packets - before } else { packets };
        if moved > 0 && !seen.contains(fingerprint.as_str()) {
            let (source, destination) = (End::UNKNOWN, End::UNKNOWN);
            let rule = Some(fingerprint.clone());
            let of = Use { rule, source, destination, port: 0, protocol: 0, verdict: Verdict::Allowed };
            unknown.insert(of, crate::Seen { count: 1, last: now });
        }
    }
    Ok(())
}

/// Small numbers of rules and ends, asked for once a transaction.
#[derive(Default)]
struct Ids<'a> {
    rules: HashMap<&'a str, i64>,
    ends: HashMap<&'a End, i64>,
}

impl<'a> Ids<'a> {
    fn rule(
        &mut self,
        transaction: &Transaction<'_>,
        rule: Option<&'a str>,
        now: u64,
    ) -> rusqlite::Result<i64> {
        let Some(rule) = rule else { return Ok(0) };
        if let Some(id) = self.rules.get(rule) {
            return Ok(*id);
        }
        // One of a generation that was gone before it was noted.
        let add = "INSERT OR IGNORE INTO rules (fingerprint, number, since, in_force, packets) VALUES (?1, 0, ?2, 0, -1)";
        transaction.execute(add, params![rule, whole(now)])?;
        let id =
            transaction.query_row("SELECT id FROM rules WHERE fingerprint = ?1", [rule], |row| row.get(0))?;
        self.rules.insert(rule, id);
        Ok(id)
    }

    fn end(&mut self, transaction: &Transaction<'_>, end: &'a End) -> rusqlite::Result<i64> {
        if let Some(id) = self.ends.get(end) {
            return Ok(*id);
        }
        let name = end.name.as_deref().unwrap_or_default();
        let address = end.address.map(|address| address.to_string()).unwrap_or_default();
        transaction
            .execute("INSERT OR IGNORE INTO ends (name, address) VALUES (?1, ?2)", [name, &address])?;
        let ask = "SELECT id FROM ends WHERE name = ?1 AND address = ?2";
        let id = transaction.query_row(ask, [name, &address], |row| row.get(0))?;
        self.ends.insert(end, id);
        Ok(id)
    }
}
