//! The `[events]` table: what events take, how long they are kept, and which flows are told of.

use std::ops::RangeInclusive;

use bulkhead_abi::AllowedReports;
use bulkhead_policy::source::Source;
use serde::Deserialize;
use toml::Spanned;

use super::Config;
use super::file::{BUDGET, at, bounded};
use crate::exit::Usage;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    ring_bytes: Option<Spanned<i64>>,
    aggregates: Option<Spanned<i64>>,
    attest_seconds: Option<Spanned<i64>>,
    keep_days: Option<Spanned<i64>>,
    keep_mib: Option<Spanned<i64>>,
    allowed: Option<Spanned<Allowed>>,
    allowed_one_in: Option<Spanned<i64>>,
    allowed_budget: Option<Spanned<i64>>,
}

/// Which flows are told of as rules let them begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Allowed {
    Off,
    Sampled,
    All,
}

const AGGREGATES: RangeInclusive<i64> = 64..=1_048_576;
const RING_BYTES: RangeInclusive<i64> = 4096..=1_073_741_824;
const ATTEST: RangeInclusive<i64> = 1..=3600;
const KEEP_DAYS: RangeInclusive<i64> = 1..=36_500;
const KEEP_MIB: RangeInclusive<i64> = 64..=1_048_576;
const ONE_IN: RangeInclusive<i64> = 2..=1 << 20;

impl Section {
    /// Sets what the table has.
    pub fn read(&self, source: &Source, config: &mut Config) -> Result<(), Usage> {
        let capacity = &mut config.capacity;
        for (name, value, bounds, to) in [
            ("aggregates", &self.aggregates, AGGREGATES, &mut capacity.aggregates),
            ("ring_bytes", &self.ring_bytes, RING_BYTES, &mut capacity.event_bytes),
            ("attest_seconds", &self.attest_seconds, ATTEST, &mut config.attest_seconds),
            ("keep_days", &self.keep_days, KEEP_DAYS, &mut config.keep_days),
            ("keep_mib", &self.keep_mib, KEEP_MIB, &mut config.keep_mib),
        ] {
            if let Some(value) = value {
                *to = bounded(source, name, value, bounds)?;
            }
        }
        let is_power_of_two = config.capacity.event_bytes.is_power_of_two();
        if let Some(bytes) = self.ring_bytes.as_ref().filter(|_| !is_power_of_two) {
            return Err(at(source, bytes.span().start, "ring_bytes: not a power of two; try 1048576"));
        }
        config.allowed = self.allowed(source)?;
        Ok(())
    }

    /// Which flows are told of as rules let them begin.
    fn allowed(&self, source: &Source) -> Result<AllowedReports, Usage> {
        let choice = self.allowed.as_ref().map_or(Allowed::Off, |choice| *choice.get_ref());
        for (name, given, is_used) in [
            ("allowed_one_in", &self.allowed_one_in, choice == Allowed::Sampled),
            ("allowed_budget", &self.allowed_budget, choice != Allowed::Off),
        ] {
            if let Some(given) = given.as_ref().filter(|_| !is_used) {
                let words = format!("{name}: says nothing here; add allowed = \"sampled\", or remove it");
                return Err(at(source, given.span().start, &words));
            }
        }
        let budget = match &self.allowed_budget {
            Some(budget) => bounded(source, "allowed_budget", budget, BUDGET)?,
            None => 1000,
        };
        let one_in = match &self.allowed_one_in {
            Some(given) => {
                let one_in = bounded(source, "allowed_one_in", given, ONE_IN)?;
                if !one_in.is_power_of_two() {
                    return Err(at(source, given.span().start, "allowed_one_in: not a power of two; try 64"));
                }
                one_in
            }
            None => 64,
        };
        Ok(match choice {
            Allowed::Off => AllowedReports::NONE,
            Allowed::Sampled => AllowedReports { budget, one_in },
            Allowed::All => AllowedReports { budget, one_in: 1 },
        })
    }
}
