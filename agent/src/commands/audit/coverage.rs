//! `bulkhead audit coverage`: whether enforcement was on all the time.

use std::collections::BTreeMap;

use bulkhead_api::event::{Coverage, Covered, Event, Kind, Timestamp};
use bulkhead_api::mode::Mode;
use bulkhead_api::text::plain;
use serde::Serialize;

use super::source::{Records, Source};
use crate::commands::filter::{Meant, Times};
use crate::exit::Answer;
use crate::global::Global;

/// Check that enforcement was on all the time.
///
/// From the log alone: which programs, policy and inventory were on the hooks, by digests; times without
/// enforcement; and times that no agent has attested, of what is asked for. Ends with 1 if there is either, or if
/// packets were only observed (mode audit).
#[derive(Debug, clap::Args)]
pub struct AuditCoverage {
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    source: Source,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Found {
    /// Closed intervals.
    intervals: u64,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    /// What enforced, one after the other.
    enforced: Vec<Enforced>,
    /// Nanoseconds without enforcement, by interface, and of the `guard`.
    unenforced: BTreeMap<String, u64>,
    /// Intervals in which enforcement was not whole.
    not_whole: Vec<Span>,
    /// Times that no agent has attested.
    unattested: Vec<Span>,
    /// Intervals in which the tables were read back and were not what was approved.
    altered: u64,
}

/// What enforced for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Enforced {
    from: Timestamp,
    until: Timestamp,
    #[serde(flatten)]
    covered: Covered,
}

/// A time that is missing something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Span {
    /// The record that shows it.
    record: u64,
    from: Timestamp,
    until: Timestamp,
    /// The same programs were on the same hooks before and after.
    same_programs: bool,
}

/// Follows intervals in the log's order.
#[derive(Debug, Default)]
struct Follower {
    found: Found,
    last: Option<(Timestamp, Covered)>,
}

impl AuditCoverage {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let meant = self.times.of(Meant::default())?;
        let mut follower = Follower::default();
        for record in Records::open(&self.source, global)? {
            let (number, record) = record?;
            let is_after = |until| matches!(&record.event.kind, Kind::Coverage(is) if is.since >= until);
            if meant.since.is_none_or(|since| record.event.time > since) && !meant.until.is_some_and(is_after)
            {
                follower.take(number, &record.event);
            }
        }
        let found = follower.asked(meant.since, meant.until);
        if global.json {
            println!("{}", serde_json::to_string(&found)?);
        } else {
            found.show();
        }
        Ok(if found.is_whole() { Answer::Yes } else { Answer::No })
    }
}

impl Follower {
    fn take(&mut self, record: u64, event: &Event) {
        let Kind::Coverage(coverage) = &event.kind else { return };
        let (since, until) = (coverage.since, event.time);
        let Coverage { at_start, at_end, .. } = &**coverage;
        let at_end = at_end.as_ref().unwrap_or(at_start);
        if let Some((last, covered)) = self.last.replace((until, at_end.clone()))
            && (last < since || until < last)
        {
            let same_programs = covered.hooks == at_start.hooks && !covered.hooks.is_empty();
            self.found.unattested.push(Span { record, from: last, until: since, same_programs });
        }
        if !coverage.whole {
            let same_programs = at_start.hooks == at_end.hooks;
            self.found.not_whole.push(Span { record, from: since, until, same_programs });
        }
        for (what, time) in &coverage.unenforced {
            *self.found.unenforced.entry(what.clone()).or_default() += time;
        }
        self.found.altered +=
            u64::from(coverage.read_back.as_ref().is_some_and(|read| read.differences != 0));
        self.enforced(since, until, at_start);
        if at_end != at_start {
            self.enforced(until, until, at_end);
        }
        self.found.intervals += 1;
        self.found.from.get_or_insert(since);
        self.found.until = Some(until);
    }

    /// What is found of a time that was asked for: its ends, too, are to be attested.
    fn asked(self, since: Option<Timestamp>, until: Option<Timestamp>) -> Found {
        let Self { mut found, last } = self;
        let mut add = |from, until| {
            if from < until {
                found.unattested.push(Span { record: 0, from, until, same_programs: false });
            }
        };
        if let (Some(since), Some(from)) = (since, found.from) {
            add(since, from);
        }
        if let (Some(until), Some((last, _))) = (until, last) {
            add(last, until);
        }
        found
    }

    fn enforced(&mut self, from: Timestamp, until: Timestamp, covered: &Covered) {
        match self.found.enforced.last_mut() {
            Some(last) if last.covered == *covered => last.until = until,
            _ => self.found.enforced.push(Enforced { from, until, covered: covered.clone() }),
        }
    }
}

impl Found {
    fn is_whole(&self) -> bool {
        let is_whole = self.not_whole.is_empty() && self.unattested.is_empty() && self.altered == 0;
        // What only observes stops nothing.
        let is_enforced = self.enforced.iter().all(|of| of.covered.mode == Mode::Enforce);
        self.intervals != 0 && is_whole && is_enforced
    }

    fn show(&self) {
        let (Some(from), Some(until)) = (self.from, self.until) else {
            println!("no coverage in the log: the agent writes it every `[events] attest_seconds`");
            return;
        };
        println!("{} closed intervals, {} to {}", self.intervals, from.milliseconds(), until.milliseconds());
        for Enforced { from, covered, .. } in &self.enforced {
            let short = |digest: &Option<String>| {
                let digest = digest.as_deref().map_or("unknown", |digest| digest.get(..12).unwrap_or(digest));
                plain(digest).into_owned()
            };
            println!(
                "from {} generation {}, {}, policy {}, inventory {}, on {} hooks",
                from.milliseconds(),
                covered.generation,
                covered.mode.name(),
                short(&covered.policy),
                short(&covered.inventory),
                covered.hooks.len()
            );
        }
        for (what, time) in &self.unenforced {
            let what = plain(what);
            println!("{what}: not enforced for {} ms", time.div_ceil(1_000_000));
        }
        let span = |words: &str, Span { record, from, until, .. }: &Span, more: &str| {
            println!(
                "{words} from {} to {} (record {record}){more}",
                from.milliseconds(),
                until.milliseconds()
            );
        };
        for time in &self.not_whole {
            span("not whole", time, "");
        }
        for time in &self.unattested {
            let same = if time.same_programs {
                "; the same programs were on the hooks before and after"
            } else {
                ""
            };
            span("not attested", time, same);
        }
        if self.altered != 0 {
            println!(
                "in {} intervals the tables were not what was approved; `bulkhead audit show --kind altered` lists them",
                self.altered
            );
        }
        println!(
            "{}",
            if self.is_whole() { "enforced all the time" } else { "NOT shown to be enforced all the time" }
        );
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::{Coverage, Covered, CoveredHook, Event, Kind, Timestamp};
    use bulkhead_api::hook::Hook;

    use super::{Follower, Found, Mode};

    fn covered(program: u32) -> Covered {
        let hook = CoveredHook { interface: "wg0".to_owned(), hook: Hook::TcxIngress, program, tag: None };
        Covered { generation: 1, hooks: vec![hook], ..Covered::default() }
    }

    fn interval(since: u64, until: u64, programs: [u32; 2], whole: bool) -> Event {
        let [at_start, at_end] = programs.map(covered);
        let coverage = Coverage {
            since: Timestamp::from_unix(since),
            whole,
            at_end: (at_start != at_end).then_some(at_end),
            at_start,
            unenforced: if whole { [].into() } else { [("wg0".to_owned(), 5)].into() },
            looks: 1,
            longest_look: 1,
            read_back: None,
        };
        let kind = Kind::Coverage(Box::new(coverage));
        Event { time: Timestamp::from_unix(until), node: String::new(), kind }
    }

    fn found(events: &[Event]) -> Found {
        let mut follower = Follower::default();
        (0..).zip(events).for_each(|(number, event)| follower.take(number, event));
        follower.found
    }

    #[test]
    fn intervals_that_follow_each_other_are_one_time() {
        let found = found(&[
            interval(1, 5, [7, 7], true),
            interval(5, 9, [7, 8], true),
            interval(9, 12, [8, 8], true),
        ]);
        assert!(found.is_whole());
        let times: Vec<_> = found.enforced.iter().map(|time| (time.from.unix(), time.until.unix())).collect();
        assert_eq!(times, [(1, 9), (9, 12)]);
        assert!(!Found::default().is_whole(), "nothing is shown by nothing");
    }

    #[test]
    fn a_time_that_nobody_attests_and_one_without_enforcement_are_told() {
        let holes = found(&[
            interval(1, 5, [7, 7], true),
            interval(6, 9, [7, 7], true),
            interval(11, 12, [8, 8], true),
        ]);
        let same: Vec<_> = holes.unattested.iter().map(|span| (span.record, span.same_programs)).collect();
        assert_eq!((same, holes.is_whole()), (vec![(1, true), (2, false)], false));
        let back = found(&[interval(6, 9, [7, 7], true), interval(1, 5, [7, 7], true)]);
        assert_eq!((back.unattested.len(), back.is_whole()), (1, false), "the clock was set back");
        let open = found(&[interval(1, 5, [7, 7], false)]);
        assert_eq!((open.not_whole.len(), open.unenforced["wg0"], open.is_whole()), (1, 5, false));
    }

    #[test]
    fn the_ends_of_what_is_asked_for_are_to_be_attested_too() {
        let asked = |since: Option<u64>, until: Option<u64>| {
            let mut follower = Follower::default();
            follower.take(0, &interval(2, 5, [7, 7], true));
            follower.asked(since.map(Timestamp::from_unix), until.map(Timestamp::from_unix)).is_whole()
        };
        assert!(asked(None, None) && asked(Some(2), Some(5)) && asked(Some(3), Some(4)));
        assert!(!asked(Some(1), None) && !asked(None, Some(6)));
    }

    #[test]
    fn what_only_observes_enforces_nothing() {
        let mut event = interval(1, 5, [7, 7], true);
        if let Kind::Coverage(coverage) = &mut event.kind {
            coverage.at_start.mode = Mode::Audit;
        }
        assert!(!found(&[event]).is_whole());
    }
}
