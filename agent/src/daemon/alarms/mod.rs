//! Alarms: what somebody should look at, told once with its end.
//!
//! ```text
//! events ─ AlarmSink ─┐
//! counters, deadlines ┼─ Alarms (fixed tables) ─ Alerting (a thread, each second) ─ events, alarms.json
//! history ────────────┘                                      └─ quarantine, if agent.toml asks for it
//! ```
//!
//! Nothing waits for it. An alarm that is on is kept over restarts, so that it is not raised again and its end is told.

mod denials;
mod found;
mod respond;
mod scan;
mod sessions;
mod spike;
mod table;
mod telling;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_api::event::{Alarm, AlarmKind, AlarmState, Drop, End, Event, Kind, Timestamp};
use bulkhead_api::status;
use bulkhead_events::{Entry, Sink};

use self::denials::{Denials, Denied};
use self::scan::Scans;
use self::spike::{Above, Spikes};
use self::telling::Remembered;
use crate::config;
use crate::daemon::clock::{boot_time, wall_time};
use crate::daemon::log::log_and_default;
use crate::daemon::store::Store;

pub use self::found::{Active, Cause, Found, Label, label};
pub use self::worker::Alerting;

/// Alarms that are on, in the state directory.
const FILE: &str = "alarms.json";

/// Pairs whose denials are counted: some 2 MB.
const PAIRS: usize = 4096;

/// Alarms of one kind that are on at once: more are counted.
const MOST: usize = 64;

/// How long the use of an idle rule, and a withheld quarantine, are on: ns.
const SHOWN: u64 = 24 * 60 * 60 * 1_000_000_000;

/// What raises alarms, and which are on.
pub struct Alarms(Mutex<Kept>);

struct Kept {
    scans: Scans,
    pairs: Spikes<(Label, Option<Label>), (End, Option<End>)>,
    denials: Option<Denials>,
    denied: Vec<Denied>,
    active: BTreeMap<String, Active>,
    raised: BTreeMap<&'static str, u64>,
    suppressed: u64,
    /// What is to be told.
    told: Vec<Alarm>,
}

impl Alarms {
    /// With what an earlier agent has raised.
    pub fn open(settings: &config::Alarms, store: &Store) -> Self {
        // What cannot be read is raised again.
        let earlier: Remembered = store.load(FILE).unwrap_or_else(log_and_default).unwrap_or_default();
        let alarms = Self::new(settings);
        alarms.take_up(earlier);
        alarms
    }

    pub(in crate::daemon) fn new(settings: &config::Alarms) -> Self {
        Self(Mutex::new(Kept {
            scans: Scans::new(settings.scan),
            pairs: Spikes::new(settings.spike, PAIRS, seconds()),
            denials: settings.quarantine.clone().map(Denials::new),
            denied: Vec::new(),
            active: BTreeMap::new(),
            raised: BTreeMap::new(),
            suppressed: 0,
            told: Vec::new(),
        }))
    }

    fn held(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises an alarm, unless it is on; whether it has.
    pub fn raise(&self, found: &Found) -> bool {
        self.held().raise(found)
    }

    /// Ends an alarm, if it is on.
    pub fn end(&self, found: &Found) {
        self.held().end(found);
    }

    /// Ends those of a fleet that is not followed any more, or is looked at anew.
    pub fn end_of_fleet(&self) {
        let mut kept = self.held();
        let is_fleet = |active: &&Active| matches!(active.cause, Cause::Fleet { .. });
        let all: Vec<_> = kept.active.values().filter(is_fleet).cloned().collect();
        all.into_iter().for_each(|active| kept.end(&Found::plain(active.cause, active.detail)));
    }

    /// Ends those of sources, which are asked anew: some may not be in agent.toml any more.
    pub fn end_of_sources(&self) {
        let mut kept = self.held();
        let is_source = |active: &&Active| matches!(active.cause, Cause::Source { .. });
        let all: Vec<_> = kept.active.values().filter(is_source).cloned().collect();
        all.into_iter().for_each(|active| kept.end(&Found::plain(active.cause, active.detail)));
    }

    /// Takes up what an earlier agent raised, and tells what that may not have told.
    fn take_up(&self, earlier: Remembered) {
        let mut kept = self.held();
        let now = seconds();
        kept.told = earlier.untold;
        for active in earlier.on.into_iter().take(AlarmKind::ALL.len() * MOST) {
            match &active.cause {
                Cause::Scan { source, direction } => kept.scans.take_up(source, *direction, now),
                Cause::FailureSpike { source, destination } => {
                    let about = (source.clone(), destination.clone());
                    kept.pairs.take_up(&key(source, destination.as_ref()), about);
                }
                _ => {}
            }
            kept.active.insert(active.cause.name(), active);
        }
    }

    /// The same of what is on alone.
    #[cfg(test)]
    pub(in crate::daemon) fn take_up_on(&self, on: Vec<Active>) {
        self.take_up(Remembered { on, untold: Vec::new() });
    }

    /// Looks at what time has ended.
    fn tick(&self) {
        let (now, wall) = (seconds(), wall_time());
        let mut kept = self.held();
        let ended = kept.scans.ended(now);
        let usual = kept.pairs.ended(now);
        ended.iter().for_each(|found| kept.end(found));
        usual.iter().for_each(|above| kept.end(&of_pair(above)));
        let is_shown = |active: &&Active| {
            matches!(active.cause, Cause::IdleRule { .. } | Cause::QuarantineWithheld { .. })
                && active.since.unix().saturating_add(SHOWN) < wall
        };
        let over: Vec<_> = kept.active.values().filter(is_shown).cloned().collect();
        for active in over {
            kept.end(&Found::plain(active.cause, active.detail));
        }
    }

    /// Which are on.
    pub fn active(&self) -> Vec<Active> {
        self.held().active.values().cloned().collect()
    }

    /// What is to be told, in its order; and which are on then, of the same moment: nothing is on that is not told.
    pub(in crate::daemon) fn take(&self) -> (Vec<Alarm>, Vec<Active>) {
        let mut kept = self.held();
        (std::mem::take(&mut kept.told), kept.active.values().cloned().collect())
    }

    /// Who is to be quarantined.
    fn take_denied(&self) -> Vec<Denied> {
        std::mem::take(&mut self.held().denied)
    }

    /// The interfaces that sources are proven on.
    fn prove(&self, interfaces: HashSet<String>) {
        if let Some(denials) = &mut self.held().denials {
            denials.prove(interfaces);
        }
    }

    /// The same for status.
    pub fn status(&self) -> status::Alarms {
        let kept = self.held();
        let active = kept.active.values().map(|active| status::ActiveAlarm {
            alarm: active.cause.kind(),
            cause: active.cause.name(),
            since: active.since,
            detail: active.detail.clone(),
        });
        status::Alarms {
            active: active.collect(),
            raised: kept.raised.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            suppressed: kept.suppressed,
        }
    }

    fn note(&self, event: &Event) {
        let Kind::Drop(drop) = &event.kind else { return };
        if drop.source.is_some() && drop.reason.is_of_rules() {
            self.held().note(drop, seconds());
        }
    }
}

impl Kept {
    fn raise(&mut self, found: &Found) -> bool {
        let (name, kind) = (found.cause.name(), found.cause.kind());
        if self.active.contains_key(&name) {
            return false;
        }
        if self.active.values().filter(|active| active.cause.kind() == kind).count() >= MOST {
            self.suppressed += 1;
            return false;
        }
        let since = Timestamp::from_unix(wall_time());
        let (cause, detail) = (found.cause.clone(), found.detail.clone());
        self.active.insert(name, Active { cause, since, detail });
        *self.raised.entry(kind.name()).or_default() += 1;
        self.told.push(found.alarm(AlarmState::Raised, since));
        true
    }

    fn end(&mut self, found: &Found) {
        if let Some(active) = self.active.remove(&found.cause.name()) {
            // What it was about, as it was said then, with how it is now.
            let found = Found { detail: active.detail, ..found.clone() };
            self.told.push(found.alarm(AlarmState::Ended, active.since));
        }
    }

    fn note(&mut self, drop: &Drop, now: u64) {
        let Some(source) = &drop.source else { return };
        let scan = self.scans.note(drop, now);
        let about = || (source.clone(), drop.destination.clone());
        let above = self.pairs.note(&key(source, drop.destination.as_ref()), about, drop.count);
        let denied = self.denials.as_mut().and_then(|denials| denials.note(drop, now));
        scan.iter().for_each(|found| _ = self.raise(found));
        above.iter().for_each(|above| _ = self.raise(&of_pair(above)));
        self.denied.extend(denied);
        // Nobody takes them while the agent starts.
        self.denied.truncate(MOST);
    }
}

fn key(source: &End, destination: Option<&End>) -> (Label, Option<Label>) {
    (Label::of(source), destination.map(Label::of))
}

fn of_pair(above: &Above<(End, Option<End>)>) -> Found {
    let Above { about: (source, destination), count, usual, seconds } = above;
    let to = destination.as_ref().map_or_else(|| "many".to_owned(), label);
    Found {
        cause: Cause::FailureSpike { source: source.clone(), destination: destination.clone() },
        count: *count,
        usual: Some(*usual),
        seconds: Some(*seconds),
        detail: format!(
            "{} → {to} was denied {count} times within {seconds} s, where {usual} are usual",
            label(source)
        ),
    }
}

/// Seconds since boot.
fn seconds() -> u64 {
    boot_time() / 1_000_000_000
}

/// Has events noted.
pub struct AlarmSink(pub Arc<Alarms>);

impl Sink for AlarmSink {
    fn name(&self) -> &'static str {
        "alarms"
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        self.0.note(&entry.event);
        Ok(())
    }
}
