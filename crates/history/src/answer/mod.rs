//! How far a policy is from its use, and a policy from what was observed: the histories of one host or more beside a
//! policy and an inventory.

pub mod drift;
mod edit;
pub mod observed;

pub use drift::Report;
pub use edit::narrower;

use std::path::Path;

use bulkhead_policy::check::Loaded;
use time::OffsetDateTime;

use crate::{Coverage, DAY, Error, Reader, RuleSeen, Used};

/// The history of one host.
pub struct OfHost {
    /// The node.
    pub node: String,
    /// What was seen since the asked time.
    pub used: Vec<Used>,
    /// Its rules.
    pub rules: Vec<RuleSeen>,
    /// How well the time is known.
    pub coverage: Coverage,
}

/// All that an answer is made from.
pub struct Question {
    /// The policy over the inventory.
    pub loaded: Loaded,
    /// Each host's history.
    pub hosts: Vec<OfHost>,
    /// Since when, s since the Unix epoch.
    pub since: u64,
    /// Now, the same.
    pub now: u64,
}

impl OfHost {
    /// Reads what a host's history knows of a time until now (s since the Unix epoch).
    ///
    /// # Errors
    /// There is none, it cannot be read, or a later version wrote it.
    pub fn read(path: &Path, since: u64, now: u64) -> Result<Self, Error> {
        let reader = Reader::open(path)?;
        Ok(Self {
            node: reader.node()?,
            used: reader.used_since(since)?,
            rules: reader.rules()?,
            coverage: reader.coverage(since, now)?,
        })
    }
}

/// The UTC day of a time (s since the Unix epoch), such as 2026-11-28.
#[must_use]
pub fn date(time: u64) -> String {
    let time = i64::try_from(time).ok().and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    time.map_or_else(|| "never".to_owned(), |time| time.date().to_string())
}

/// Whole days between two times.
#[must_use]
pub const fn days(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) / DAY
}

/// `1 look`, `2 looks`.
#[must_use]
pub fn times(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
