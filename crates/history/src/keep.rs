//! How much is kept.

use rusqlite::{Connection, params};

use crate::record::Verdict;
use crate::write::whole;
use crate::{DAY, Error, History, day};

/// What was given up to stay within the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Rows of days that are older than the bound.
    pub expired: u64,
    /// Rows of the oldest days that were given up because the file was too large: of drops first.
    pub shed: u64,
    /// The file is too large all the same.
    pub is_full: bool,
    /// Rows of today that tell of drops.
    pub drops_today: u64,
}

impl History {
    /// Forgets what is older than some days at a time (s since the Unix epoch), then the oldest days, those of drops
    /// first, until the file takes no more than `bytes`. Today is kept.
    ///
    /// Days are old only by a clock that somebody keeps in time, and counted back from the day after the last one
    /// before today on which the agent looked: a clock that is years ahead forgets nothing on its first day.
    ///
    /// # Errors
    /// The disk or SQLite refuses.
    pub fn keep(&mut self, days: u64, bytes: u64, now: u64, is_synchronized: bool) -> Result<Kept, Error> {
        let refused = self.refused();
        self.keep_within(days, bytes, now, is_synchronized).map_err(refused)
    }

    fn keep_within(
        &mut self,
        days: u64,
        bytes: u64,
        now: u64,
        is_synchronized: bool,
    ) -> rusqlite::Result<Kept> {
        let mut kept = Kept::default();
        if is_synchronized && let Some(today) = self.plausible(now)? {
            kept.expired = self.forget_before(today.saturating_sub(days.saturating_mul(DAY)))?;
        }
        let is_drop = Verdict::Dropped as u8;
        while self.bytes()? > bytes {
            let ask = "SELECT min(day) FROM use_by_day WHERE day < ?1";
            let of_drops = format!("{ask} AND verdict >= {is_drop}");
            let oldest =
                |ask: &str| self.connection.query_row(ask, [day(now)], |row| row.get::<_, Option<i64>>(0));
            let removed = match (oldest(&of_drops)?, oldest(ask)?) {
                (Some(day), _) => {
                    let remove = "DELETE FROM use_in_all WHERE last < ?1 AND verdict >= ?2";
                    self.connection.execute(remove, params![(day + 1) * DAY as i64, is_drop])?;
                    let remove = "DELETE FROM use_by_day WHERE day = ?1 AND verdict >= ?2";
                    let removed = self.connection.execute(remove, params![day, is_drop])?;
                    forget_ends(&self.connection)?;
                    removed
                }
                (None, Some(day)) => {
                    self.connection.execute("DELETE FROM use_by_day WHERE day = ?1", [day])?
                }
                (None, None) => break,
            };
            kept.shed += removed as u64;
            self.give_back()?;
        }
        kept.is_full = self.bytes()? > bytes;
        let ask = "SELECT count(*) FROM use_by_day WHERE day = ?1 AND verdict >= ?2";
        let rows = self.connection.query_row(ask, params![day(now), is_drop], |row| row.get::<_, i64>(0))?;
        kept.drops_today = rows.unsigned_abs();
        Ok(kept)
    }

    /// A time (s since the Unix epoch), but no later than what the days that were recorded before today allow; none:
    /// there are none.
    fn plausible(&self, now: u64) -> rusqlite::Result<Option<u64>> {
        let ask = "SELECT max(day) FROM days WHERE looks > 0 AND day < ?1";
        let last: Option<i64> = self.connection.query_row(ask, [day(now)], |row| row.get(0))?;
        Ok(last.map(|last| now.min(last.unsigned_abs().saturating_add(2).saturating_mul(DAY))))
    }

    fn forget_before(&mut self, oldest: u64) -> rusqlite::Result<u64> {
        let transaction = self.connection.transaction()?;
        let rows = transaction.execute("DELETE FROM use_by_day WHERE day < ?1", [day(oldest)])?;
        transaction.execute("DELETE FROM days WHERE day < ?1", [day(oldest)])?;
        let gone = transaction.execute("DELETE FROM use_in_all WHERE last < ?1", [whole(oldest)])?;
        if rows + gone > 0 {
            forget_ends(&transaction)?;
            let unused = "SELECT rule FROM use_in_all UNION SELECT rule FROM use_by_day";
            let gone = format!("DELETE FROM rules WHERE in_force = 0 AND id NOT IN ({unused})");
            transaction.execute(&gone, [])?;
        }
        transaction.commit()?;
        self.give_back()?;
        Ok(rows as u64)
    }

    /// Makes the file as small as what it holds.
    fn give_back(&self) -> rusqlite::Result<()> {
        let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum")?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// Bytes that the file takes.
    fn bytes(&self) -> rusqlite::Result<u64> {
        let ask = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        self.connection.query_row(ask, [], |row| row.get::<_, i64>(0)).map(|bytes| bytes as u64)
    }
}

/// Forgets ends that nothing is known of any more.
fn forget_ends(connection: &Connection) -> rusqlite::Result<usize> {
    let used = "SELECT source FROM use_in_all UNION SELECT destination FROM use_in_all
        UNION SELECT source FROM use_by_day UNION SELECT destination FROM use_by_day";
    connection.execute(&format!("DELETE FROM ends WHERE id > 0 AND id NOT IN ({used})"), [])
}
