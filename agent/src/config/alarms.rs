//! The `[alarms]` table: what somebody is told to look at, and what the agent does about it by itself.

use std::ops::RangeInclusive;

use bulkhead_policy::source::Source;
use serde::Deserialize;
use toml::Spanned;

use super::file::{at, bounded};
use super::{Managed, Role};
use crate::exit::Usage;

/// What raises alarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarms {
    /// One source at many destinations and ports.
    pub scan: Scan,
    /// Denials of a pair far above their own past.
    pub spike: Spike,
    /// Packets of an order session far above their own past.
    pub session: Spike,
    /// What expires.
    pub expiry: ExpiryLimits,
    /// Days without use after which the use of a rule is told.
    pub idle_days: u64,
    /// Cutting nodes off; none: the agent does not.
    pub quarantine: Option<Response>,
}

/// One source at many destinations and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Destinations and ports, together, that are a scan.
    pub targets: u64,
    /// Within so many seconds.
    pub seconds: u64,
}

/// A count far above its own past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spike {
    /// Fewer are never one.
    pub least: u64,
    /// So many times as many as usual.
    pub times: u64,
    /// Within so many seconds.
    pub seconds: u64,
}

/// How long before an end somebody hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryLimits {
    /// That it is to be renewed: ns.
    pub warning: u64,
    /// That it is to be renewed at once: ns.
    pub critical: u64,
}

impl ExpiryLimits {
    fn new(days: u64, hours: u64) -> Self {
        const HOUR: u64 = 60 * 60 * 1_000_000_000;
        Self { warning: days * 24 * HOUR, critical: hours * HOUR }
    }
}

impl Default for ExpiryLimits {
    /// 7 days, and 24 hours.
    fn default() -> Self {
        Self::new(7, 24)
    }
}

/// Cutting off whoever is denied again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Interfaces whose overlay has checked whose address a source is.
    pub interfaces: Vec<String>,
    /// Denials.
    pub denials: u64,
    /// Within so many seconds.
    pub seconds: u64,
    /// For so many seconds.
    pub hold: u64,
    /// How many nodes at once, at most.
    pub at_once: usize,
}

impl Default for Alarms {
    fn default() -> Self {
        Self {
            scan: Scan { targets: 25, seconds: 60 },
            spike: Spike { least: 100, times: 10, seconds: 60 },
            session: Spike { least: 1000, times: 5, seconds: 60 },
            expiry: ExpiryLimits::default(),
            idle_days: 90,
            quarantine: None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    enabled: Option<bool>,
    scan_targets: Option<Spanned<i64>>,
    scan_seconds: Option<Spanned<i64>>,
    spike_least: Option<Spanned<i64>>,
    spike_times: Option<Spanned<i64>>,
    spike_seconds: Option<Spanned<i64>>,
    session_least: Option<Spanned<i64>>,
    session_times: Option<Spanned<i64>>,
    expiry_warning_days: Option<Spanned<i64>>,
    expiry_critical_hours: Option<Spanned<i64>>,
    idle_days: Option<Spanned<i64>>,
    quarantine: Option<Spanned<Quarantine>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Quarantine {
    enabled: bool,
    interfaces: Vec<Spanned<String>>,
    denials: Option<Spanned<i64>>,
    seconds: Option<Spanned<i64>>,
    minutes: Option<Spanned<i64>>,
    at_once: Option<Spanned<i64>>,
}

/// What one source keeps in memory.
const TARGETS: RangeInclusive<i64> = 2..=256;
const SECONDS: RangeInclusive<i64> = 1..=3600;
const LEAST: RangeInclusive<i64> = 1..=1_000_000_000;
const TIMES: RangeInclusive<i64> = 2..=1000;
const DAYS: RangeInclusive<i64> = 1..=3660;
/// Up to 90 days, and a month.
const WARNING: RangeInclusive<i64> = 1..=90;
const CRITICAL: RangeInclusive<i64> = 1..=30 * 24;
/// Up to a week.
const MINUTES: RangeInclusive<i64> = 1..=7 * 24 * 60;
const AT_ONCE: RangeInclusive<i64> = 1..=64;

impl Section {
    /// What raises alarms; none: nothing does. Bounds are held whether it is enabled or not.
    pub fn read(&self, source: &Source, interfaces: &[Managed]) -> Result<Option<Alarms>, Usage> {
        let number = |name: &str, value: &Option<Spanned<i64>>, bounds, or: u64| {
            value.as_ref().map_or(Ok(or), |value| bounded(source, name, value, bounds).map(u64::from))
        };
        let Alarms { scan, spike, session, idle_days, .. } = Alarms::default();
        let seconds = number("spike_seconds", &self.spike_seconds, SECONDS, spike.seconds)?;
        let alarms = Alarms {
            scan: Scan {
                targets: number("scan_targets", &self.scan_targets, TARGETS, scan.targets)?,
                seconds: number("scan_seconds", &self.scan_seconds, SECONDS, scan.seconds)?,
            },
            spike: Spike {
                least: number("spike_least", &self.spike_least, LEAST, spike.least)?,
                times: number("spike_times", &self.spike_times, TIMES, spike.times)?,
                seconds,
            },
            session: Spike {
                least: number("session_least", &self.session_least, LEAST, session.least)?,
                times: number("session_times", &self.session_times, TIMES, session.times)?,
                seconds,
            },
            expiry: self.expiry(source)?,
            idle_days: number("idle_days", &self.idle_days, DAYS, idle_days)?,
            quarantine: match &self.quarantine {
                Some(section) => section.get_ref().read(source, section.span().start, interfaces)?,
                None => None,
            },
        };
        let is_enabled = self.enabled.unwrap_or(true);
        if let (false, Some(section), true) = (is_enabled, &self.quarantine, alarms.quarantine.is_some()) {
            let words = "quarantine: enabled, but [alarms] is not; enable both, or neither";
            return Err(at(source, section.span().start, words));
        }
        Ok(is_enabled.then_some(alarms))
    }

    fn expiry(&self, source: &Source) -> Result<ExpiryLimits, Usage> {
        let number = |name: &str, value: &Option<Spanned<i64>>, bounds, or: u64| {
            value.as_ref().map_or(Ok(or), |value| bounded(source, name, value, bounds).map(u64::from))
        };
        let days = number("expiry_warning_days", &self.expiry_warning_days, WARNING, 7)?;
        let hours = number("expiry_critical_hours", &self.expiry_critical_hours, CRITICAL, 24)?;
        let written = self.expiry_critical_hours.as_ref().or(self.expiry_warning_days.as_ref());
        match written {
            Some(written) if hours > days * 24 => {
                let words = format!(
                    "expiry_critical_hours: {hours} hours are more than the {days} days of expiry_warning_days: what is \
                     urgent comes last"
                );
                Err(at(source, written.span().start, &words))
            }
            _ => Ok(ExpiryLimits::new(days, hours)),
        }
    }
}

impl Quarantine {
    fn read(&self, source: &Source, start: usize, managed: &[Managed]) -> Result<Option<Response>, Usage> {
        let number = |name: &str, value: &Option<Spanned<i64>>, bounds, or: u64| {
            value.as_ref().map_or(Ok(or), |value| bounded(source, name, value, bounds).map(u64::from))
        };
        for name in &self.interfaces {
            let is_overlay =
                |managed: &Managed| managed.name == *name.get_ref() && managed.role == Role::Overlay;
            if !managed.iter().any(is_overlay) {
                let words = format!(
                    "interfaces: '{}' is no [[interface]] of this file that carries an overlay; name those whose \
                     overlay checks its peers' addresses, such as WireGuard's",
                    name.get_ref()
                );
                return Err(at(source, name.span().start, &words));
            }
        }
        let response = Response {
            interfaces: self.interfaces.iter().map(|name| name.get_ref().clone()).collect(),
            denials: number("denials", &self.denials, LEAST, 50)?,
            seconds: number("seconds", &self.seconds, SECONDS, 60)?,
            hold: number("minutes", &self.minutes, MINUTES, 15)? * 60,
            at_once: number("at_once", &self.at_once, AT_ONCE, 2)? as usize,
        };
        if self.enabled && response.interfaces.is_empty() {
            let words = "quarantine: name in `interfaces` those whose overlay checks its peers' addresses, such as \
                         WireGuard's: on others anybody could have anybody cut off";
            return Err(at(source, start, words));
        }
        Ok(self.enabled.then_some(response))
    }
}
