//! Records of the event log → the parts of the pack that are from it.

mod alarms;
mod coverage;
mod drops;
mod losses;

use bulkhead_api::event::{Actor, Control, Event, Kind, Timestamp};
use bulkhead_api::history::Entry;
use bulkhead_api::record::Record;

use self::alarms::Alarming;
use self::coverage::Covering;
use self::drops::Dropping;
use self::losses::Losing;
use crate::pack::{
    Alarms, Altered, Change, Changes, Coverage, Drops, EnforcedLast, Losses, Positions, Source, Unenforced,
    UnenforcedTime,
};

/// A change's record and its files' are made within this of each other, ns.
const SAME_CHANGE: u64 = 120_000_000_000;

/// Reads records in their order.
pub struct Gather {
    since: Timestamp,
    until: Timestamp,
    read: Option<Positions>,
    begins: Option<Timestamp>,
    unsynchronized: u64,
    covering: Covering,
    dropping: Dropping,
    alarming: Alarming,
    losing: Losing,
    changes: Vec<(u64, Timestamp, Control)>,
    unenforced: Unenforced,
}

/// What the log knows of a time.
pub struct OfLog {
    /// Records of the time.
    pub read: Option<Positions>,
    /// When the log's first record was written.
    pub begins: Option<Timestamp>,
    /// Records that were written while nobody kept the clock in time.
    pub unsynchronized: u64,
    /// What was enforced last.
    pub enforced: Option<EnforcedLast>,
    /// Whether enforcement was on.
    pub coverage: Coverage,
    /// What was dropped.
    pub drops: Drops,
    /// Who changed what.
    pub changes: Changes,
    /// Times without enforcement.
    pub unenforced: Unenforced,
    /// What alarmed.
    pub alarms: Alarms,
    /// What the log has lost.
    pub losses: Losses,
}

impl Gather {
    /// Begins with nothing, for a time.
    #[must_use]
    pub fn new(since: Timestamp, until: Timestamp) -> Self {
        Self {
            since,
            until,
            read: None,
            begins: None,
            unsynchronized: 0,
            covering: Covering::new(since, until),
            dropping: Dropping::default(),
            alarming: Alarming::default(),
            losing: Losing::default(),
            changes: Vec::new(),
            unenforced: Unenforced::default(),
        }
    }

    /// Takes the next record, by its number.
    pub fn take(&mut self, number: u64, record: &Record) {
        let Event { time, kind, .. } = &record.event;
        self.begins.get_or_insert(*time);
        let is_asked = *time >= self.since && *time <= self.until;
        match kind {
            Kind::Balance(balance) => self.losing.balance(number, *time, balance, is_asked),
            Kind::Alarm(alarm) if *time <= self.until => self.alarming.take(number, *time, alarm, is_asked),
            _ => {}
        }
        if !is_asked {
            return;
        }
        self.read.get_or_insert(Positions { first: number, last: number }).last = number;
        self.unsynchronized += u64::from(!record.clock.synchronized);
        match kind {
            Kind::Drop(drop) => self.dropping.take(*time, drop),
            Kind::Coverage(coverage) => self.covering.take(number, *time, coverage),
            Kind::Control(control) => {
                self.alarming.control(number, *time, control);
                self.changes.push((number, *time, (**control).clone()));
            }
            Kind::Unenforced(of) => self.unenforced.times.push(UnenforcedTime {
                record: number,
                interface: of.interface.clone(),
                from: of.since,
                until: *time,
                milliseconds: of.milliseconds,
                cause: of.cause.clone(),
                effect: of.effect,
                agent: of.agent,
            }),
            Kind::Altered(altered) => self.unenforced.altered.push(Altered {
                record: number,
                time: *time,
                what: format!("{} {}", altered.table, altered.entry),
                expected: altered.expected.clone(),
                found: altered.found.clone(),
            }),
            Kind::Lost(lost) => self.losing.lost(number, *time, lost),
            _ => {}
        }
    }

    /// All that was found. `kept` are changes whose files are kept; `who` says who an actor is.
    pub fn end(self, kept: &[Entry], who: impl Fn(&Actor) -> String) -> OfLog {
        let source = Source { records: self.read, histories: Vec::new() };
        let (enforced, coverage, attested) = self.covering.end(source.clone());
        let losses = self.losing.end(source.clone());
        let alarms = self.alarming.end(source.clone());
        let drops = self.dropping.end(source.clone(), &attested, losses.untold());
        let changes = self.changes.into_iter().map(|change| of_control(change, kept, &who)).collect();
        OfLog {
            read: self.read,
            begins: self.begins,
            unsynchronized: self.unsynchronized,
            enforced,
            coverage,
            drops,
            changes: Changes { source: source.clone(), changes },
            unenforced: Unenforced { source, ..self.unenforced },
            alarms,
            losses,
        }
    }
}

fn of_control(
    (record, time, control): (u64, Timestamp, Control),
    kept: &[Entry],
    who: impl Fn(&Actor) -> String,
) -> Change {
    let distance = |entry: &&Entry| entry.origin.time.abs_diff(time.unix());
    let is_it = |entry: &&Entry| {
        let digests = (Some(&entry.policy_sha256), Some(&entry.inventory_sha256));
        entry.origin.action == control.action
            && entry.origin.by == control.by
            && digests == (control.policy.as_ref(), control.inventory.as_ref())
            && distance(entry) < SAME_CHANGE
    };
    let changed = control.generation != control.generation_before;
    let entry = kept.iter().filter(|_| changed).filter(is_it).min_by_key(distance);
    Change {
        record,
        time,
        action: control.action,
        outcome: control.outcome,
        who: who(&control.by),
        by: control.by,
        subject: control.subject,
        detail: control.detail,
        generation_before: control.generation_before,
        generation: control.generation,
        policy: control.policy,
        difference: entry.map(|entry| entry.origin.difference.clone()),
    }
}
