//! How much of a time was enforced.

use std::collections::BTreeMap;

use bulkhead_api::event::{self, Covered, Timestamp};
use bulkhead_api::mode::Mode;

use crate::pack::{Coverage, EnforcedLast, Hole, HoleKind, InForce, Positions, Ruled, Shares, Source};

/// Nanoseconds of a day.
pub(super) const DAY: u64 = 86_400_000_000_000;

/// Follows attested intervals.
pub(super) struct Covering {
    since: u64,
    until: u64,
    /// Until when the time is accounted for.
    done: u64,
    shares: Shares,
    ruled: Vec<Ruled>,
    holes: Vec<Hole>,
    attested: Attested,
    last: Option<EnforcedLast>,
}

/// How much of each day is asked about, and is attested, ns by days since the Unix epoch.
pub(super) struct Attested(pub BTreeMap<u64, (u64, u64)>);

impl Covering {
    pub(super) fn new(since: Timestamp, until: Timestamp) -> Self {
        let (since, until) = (since.unix(), until.unix());
        let days = split(since, until).map(|(day, time)| (day, (time, 0))).collect();
        Self {
            since,
            until,
            done: since,
            shares: Shares::default(),
            ruled: Vec::new(),
            holes: Vec::new(),
            attested: Attested(days),
            last: None,
        }
    }

    /// Takes an interval, which ends at a time.
    pub(super) fn take(&mut self, record: u64, until: Timestamp, of: &event::Coverage) {
        let at_end = of.at_end.as_ref().unwrap_or(&of.at_start);
        self.last = Some(EnforcedLast { record, time: until, of: InForce::of(at_end) });
        let (from, until) = (of.since.unix().max(self.done), until.unix().min(self.until));
        if from >= until {
            return;
        }
        self.unknown_until(from);
        self.done = until;
        for (day, time) in split(from, until) {
            self.attested.0.entry(day).or_default().1 += time;
        }
        self.rule(record, [from, until], &of.at_start);
        if of.at_end.is_some() {
            self.rule(record, [until, until], at_end);
        }
        self.share(record, [from, until], of, at_end);
    }

    fn share(&mut self, record: u64, [from, until]: [u64; 2], of: &event::Coverage, at_end: &Covered) {
        let all = until - from;
        let is_off = |covered: &Covered| covered.generation == 0 || covered.hooks.is_empty();
        let is_audit = |covered: &Covered| covered.mode == Mode::Audit;
        let (unenforced, why) = if is_off(&of.at_start) || is_off(at_end) {
            (all, "no program was on a hook".to_owned())
        } else {
            // Of several at a time, the one that was open longest.
            let longest = of.unenforced.values().copied().max().unwrap_or(0).min(all);
            let names: Vec<&str> = of.unenforced.keys().map(String::as_str).collect();
            (longest, format!("not as the policy needs it: {}", names.join(", ")))
        };
        if unenforced != 0 {
            self.shares.unenforced += unenforced;
            self.hole(HoleKind::Unenforced, [from, until], unenforced, why, Some(record));
        }
        let rest = all - unenforced;
        if rest == 0 {
            return;
        }
        let differences = of.read_back.as_ref().map_or(0, |read| read.differences);
        if differences != 0 {
            let why = format!("{differences} entries of the running tables were not what was approved");
            self.shares.unknown += rest;
            self.hole(HoleKind::Unknown, [from, until], rest, why, Some(record));
        } else if !of.whole && unenforced == 0 {
            let why = "the kernel was not asked, or the clock was set back".to_owned();
            self.shares.unknown += rest;
            self.hole(HoleKind::Unknown, [from, until], rest, why, Some(record));
        } else if is_audit(&of.at_start) || is_audit(at_end) {
            self.shares.audit += rest;
            self.hole(
                HoleKind::Audit,
                [from, until],
                rest,
                "mode audit: judged, and let pass".to_owned(),
                Some(record),
            );
        } else {
            self.shares.enforced += rest;
        }
    }

    fn rule(&mut self, record: u64, [from, until]: [u64; 2], covered: &Covered) {
        let of = InForce::of(covered);
        let until = Timestamp::from_unix(until);
        if let Some(last) = self.ruled.last_mut().filter(|ruled| ruled.of == of) {
            (last.until, last.records.last) = (until, record);
            return;
        }
        self.ruled.push(Ruled {
            from: Timestamp::from_unix(from),
            until,
            records: Positions { first: record, last: record },
            of,
        });
    }

    /// What nobody attested, up to a time.
    fn unknown_until(&mut self, time: u64) {
        let (from, until) = (self.done, time.min(self.until));
        if from >= until {
            return;
        }
        let why = match (from == self.since, until == self.until) {
            (true, true) => "no agent has attested any of it",
            (true, false) => "before the first interval that an agent has attested",
            (false, true) => "after the last interval that an agent has attested",
            (false, false) => "no agent has attested it",
        };
        self.shares.unknown += until - from;
        self.hole(HoleKind::Unknown, [from, until], until - from, why.to_owned(), None);
        self.done = until;
    }

    fn hole(&mut self, kind: HoleKind, [from, until]: [u64; 2], time: u64, why: String, record: Option<u64>) {
        let [from, until] = [from, until].map(Timestamp::from_unix);
        let goes_on = |hole: &&mut Hole| hole.kind == kind && hole.until == from && hole.why == why;
        if let Some(last) = self.holes.last_mut().filter(goes_on) {
            last.until = until;
            last.nanoseconds += time;
            if let (Some(records), Some(record)) = (&mut last.records, record) {
                records.last = record;
            }
            return;
        }
        let records = record.map(|record| Positions { first: record, last: record });
        self.holes.push(Hole { from, until, kind, nanoseconds: time, why, records });
    }

    pub(super) fn end(mut self, source: Source) -> (Option<EnforcedLast>, Coverage, Attested) {
        self.unknown_until(self.until);
        let Self { shares, ruled, holes, attested, last, .. } = self;
        (last, Coverage { source, shares, ruled, holes }, attested)
    }
}

/// A time by days: the day since the Unix epoch, and how much of it, ns.
fn split(from: u64, until: u64) -> impl Iterator<Item = (u64, u64)> {
    let days = if from < until { from / DAY..until.div_ceil(DAY) } else { 0..0 };
    days.map(move |day| (day, until.min((day + 1).saturating_mul(DAY)) - from.max(day * DAY)))
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::{self, Covered, CoveredHook, Timestamp};
    use bulkhead_api::hook::Hook;
    use bulkhead_api::mode::Mode;

    use super::{Covering, HoleKind, Source, split};

    fn interval(since: u64, mode: Mode, open: u64) -> event::Coverage {
        let hook = CoveredHook { interface: "wg0".to_owned(), hook: Hook::TcxIngress, program: 1, tag: None };
        event::Coverage {
            since: Timestamp::from_unix(since),
            whole: open == 0,
            at_start: Covered { generation: 1, mode, hooks: vec![hook], ..Covered::default() },
            at_end: None,
            unenforced: if open == 0 { [].into() } else { [("wg0".to_owned(), open)].into() },
            looks: 1,
            longest_look: 1,
            read_back: None,
        }
    }

    fn covering(intervals: &[(u64, u64, Mode, u64)]) -> Covering {
        let mut covering = Covering::new(Timestamp::from_unix(100), Timestamp::from_unix(200));
        for (number, (since, until, mode, open)) in (0..).zip(intervals) {
            covering.take(number, Timestamp::from_unix(*until), &interval(*since, *mode, *open));
        }
        covering
    }

    #[test]
    fn shares_are_all_of_the_time_and_what_nobody_attests_is_not_known() {
        let (enforce, audit) = (Mode::Enforce, Mode::Audit);
        let all = [(90, 110, enforce, 0), (110, 120, audit, 0), (120, 130, audit, 0), (140, 160, enforce, 5)];
        let (last, coverage, _) = covering(&all).end(Source::default());
        let shares = coverage.shares;
        assert_eq!([shares.enforced, shares.audit, shares.unenforced, shares.unknown], [25, 20, 5, 50]);
        let holes: Vec<_> = coverage.holes.iter().map(|hole| (hole.kind, hole.nanoseconds)).collect();
        assert_eq!(
            holes,
            [
                (HoleKind::Audit, 20),
                (HoleKind::Unknown, 10),
                (HoleKind::Unenforced, 5),
                (HoleKind::Unknown, 40)
            ]
        );
        assert_eq!((last.unwrap().record, coverage.ruled.len()), (3, 3));
        // Told twice, as after a clock that was set back, it counts once.
        let (_, twice, _) =
            covering(&[(100, 200, enforce, 0), (100, 200, enforce, 0)]).end(Source::default());
        assert_eq!((twice.shares.enforced, twice.holes.len()), (100, 0));
        let (_, none, _) = covering(&[]).end(Source::default());
        assert_eq!((none.shares.unknown, none.holes.len()), (100, 1));
    }

    #[test]
    fn what_is_not_whole_and_says_not_why_is_not_known() {
        let mut covering = covering(&[]);
        covering.take(
            0,
            Timestamp::from_unix(200),
            &event::Coverage { whole: false, ..interval(100, Mode::Enforce, 0) },
        );
        let (_, coverage, _) = covering.end(Source::default());
        assert_eq!((coverage.shares.unknown, coverage.shares.enforced), (100, 0));
    }

    #[test]
    fn a_time_is_split_at_midnight() {
        let day = super::DAY;
        let parts: Vec<_> = split(day - 1, 3 * day).collect();
        assert_eq!(parts, [(0, 1), (1, day), (2, day)]);
        assert_eq!(split(5, 5).count(), 0);
    }
}
