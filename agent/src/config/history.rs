//! The `[history]` table: how much is kept of who used which rule.

use std::ops::RangeInclusive;

use bulkhead_policy::source::Source;
use serde::Deserialize;
use toml::Spanned;

use super::History;
use super::file::bounded;
use crate::exit::Usage;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    enabled: Option<bool>,
    days: Option<Spanned<i64>>,
    mib: Option<Spanned<i64>>,
    flows_seconds: Option<Spanned<i64>>,
}

/// Up to ten years.
const DAYS: RangeInclusive<i64> = 1..=3660;
const MIB: RangeInclusive<i64> = 1..=65_536;
/// Up to an hour: what the table of flows forgets meanwhile is not seen.
const FLOWS_SECONDS: RangeInclusive<i64> = 1..=3600;

impl Section {
    /// What is kept; none: nothing is. Bounds are held whether it is enabled or not.
    pub fn read(&self, source: &Source) -> Result<Option<History>, Usage> {
        let History { days, bytes, flows_seconds } = History::default();
        let number = |name: &str, value: &Option<Spanned<i64>>, bounds, or| {
            value.as_ref().map_or(Ok(or), |value| bounded(source, name, value, bounds).map(u64::from))
        };
        let history = History {
            days: number("days", &self.days, DAYS, days)?,
            bytes: number("mib", &self.mib, MIB, bytes >> 20)? << 20,
            flows_seconds: number("flows_seconds", &self.flows_seconds, FLOWS_SECONDS, flows_seconds)?,
        };
        Ok(self.enabled.unwrap_or(true).then_some(history))
    }
}
