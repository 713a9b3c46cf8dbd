//! Questions.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, params};

use crate::open::open_to_read;
use crate::record::{End, RuleNote, Use, Verdict};
use crate::write::whole;
use crate::{Error, day};

/// A history to ask, while an agent writes to it or without one.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// What.
    pub what: Use,
    /// Looks or packets, by the verdict, since `first`.
    pub count: u64,
    /// When first, s since the Unix epoch.
    pub first: u64,
    /// When last, s since the Unix epoch.
    pub last: u64,
}

/// A rule that was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSeen {
    /// As it was noted last.
    pub note: RuleNote,
    /// Since when it is in force without a break, s since the Unix epoch.
    pub since: u64,
    /// Whether it is in force.
    pub in_force: bool,
}

/// How well a time is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The first day with a look, days since the Unix epoch; none: there is none.
    pub first_day: Option<i64>,
    /// Days since the asked one that have no look, today not counted.
    pub missing_days: u64,
}

impl Reader {
    /// Opens a history.
    ///
    /// # Errors
    /// There is none, it cannot be read, or a later version wrote it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { connection: open_to_read(path)?, path: path.into() })
    }

    /// The node whose it is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn node(&self) -> Result<String, Error> {
        let ask = "SELECT value FROM about WHERE name = 'node'";
        self.connection.query_row(ask, [], |row| row.get(0)).map_err(self.refused())
    }

    /// What was seen since a time (s since the Unix epoch), from the roll-up: each kind once.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn used_since(&self, since: u64) -> Result<Vec<Used>, Error> {
        let ask = "
            SELECT r.fingerprint, s.name, s.address, d.name, d.address, u.port, u.protocol, u.verdict, u.count, u.first,
                u.last
            FROM use_in_all u LEFT JOIN rules r ON r.id = u.rule JOIN ends s ON s.id = u.source
                JOIN ends d ON d.id = u.destination
            WHERE u.last >= ?1 ORDER BY u.rule, s.name, s.address, d.name, d.address, u.protocol, u.port, u.verdict";
        self.list(ask, whole(since), used)
    }

    /// How often a rule was used on each day: day and count.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn by_day(&self, fingerprint: &str, first: i64, last: i64) -> Result<Vec<(i64, u64)>, Error> {
        let ask = "
            WITH RECURSIVE asked(day) AS (SELECT ?2 UNION ALL SELECT day + 1 FROM asked WHERE day < ?3)
            SELECT u.day, sum(u.count) FROM asked CROSS JOIN use_by_day u ON u.day = asked.day
                AND u.rule = (SELECT id FROM rules WHERE fingerprint = ?1)
            GROUP BY 1 ORDER BY 1";
        let mut statement = self.connection.prepare(ask).map_err(self.refused())?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
        let rows = statement.query_map(params![fingerprint, first, last], read).map_err(self.refused())?;
        rows.collect::<Result<_, _>>().map_err(self.refused())
    }

    /// The rules that it knows.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn rules(&self) -> Result<Vec<RuleSeen>, Error> {
        let ask = "SELECT fingerprint, number, name, position, since, in_force FROM rules WHERE id > ?1 ORDER BY number";
        self.list(ask, 0, |row| {
            let note = RuleNote {
                fingerprint: row.get(0)?,
                number: row.get(1)?,
                name: row.get(2)?,
                position: row.get(3)?,
            };
            Ok(RuleSeen {
                note,
                since: row.get::<_, i64>(4)?.unsigned_abs(),
                in_force: row.get::<_, i64>(5)? != 0,
            })
        })
    }

    /// How well the time from a time until now (s since the Unix epoch) is known.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn coverage(&self, since: u64, now: u64) -> Result<Coverage, Error> {
        let ask =
            |ask: &str, day: i64| self.connection.query_row(ask, [day], |row| row.get::<_, Option<i64>>(0));
        let first =
            ask("SELECT min(day) FROM days WHERE looks > 0 AND day >= ?1", 0).map_err(self.refused())?;
        let from = day(since).max(first.unwrap_or(i64::MAX));
        let known = "SELECT count(*) FROM days WHERE looks > 0 AND day >= ?1 AND day < ?2";
        let known: i64 = self
            .connection
            .query_row(known, params![from, day(now)], |row| row.get(0))
            .map_err(self.refused())?;
        let missing = day(now).saturating_sub(from).max(0) - known;
        Ok(Coverage { first_day: first, missing_days: missing.max(0).unsigned_abs() })
    }

    fn list<T>(
        &self,
        ask: &str,
        given: i64,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let mut statement = self.connection.prepare(ask).map_err(self.refused())?;
        let rows = statement.query_map([given], read).map_err(self.refused())?;
        rows.collect::<Result<_, _>>().map_err(self.refused())
    }

    fn refused(&self) -> impl Fn(rusqlite::Error) -> Error + use<> {
        let path = self.path.clone();
        move |error| Error::Refused { path: path.clone(), error }
    }
}

fn used(row: &Row<'_>) -> rusqlite::Result<Used> {
    let end = |at: usize| {
        let (name, address): (String, String) = (row.get(at)?, row.get(at + 1)?);
        let name = Some(name).filter(|name| !name.is_empty());
        Ok::<_, rusqlite::Error>(End { name, address: address.parse::<IpAddr>().ok() })
    };
    let time = |at: usize| row.get::<_, i64>(at).map(i64::unsigned_abs);
    let verdict = row.get::<_, i64>(7)?;
    let verdict = Verdict::of(verdict).ok_or(rusqlite::Error::IntegralValueOutOfRange(7, verdict))?;
    let what = Use {
        rule: row.get(0)?,
        source: end(1)?,
        destination: end(3)?,
        port: row.get(5)?,
        protocol: row.get(6)?,
        verdict,
    };
    Ok(Used { what, count: time(8)?, first: time(9)?, last: time(10)? })
}
