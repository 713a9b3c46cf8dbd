//! `bulkhead audit coverage`: whether enforcement was on all the time.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use bulkhead_api::event::{Coverage, Covered, Event, Kind, Timestamp};
use bulkhead_api::mode::Mode;
use bulkhead_api::text::plain;
use serde::Serialize;

use super::source::{Records, Shown, Source};
use crate::commands::filter::{Meant, Times};
use crate::exit::Answer;
use crate::global::Global;

/// Check that enforcement was on all the time.
///
/// From the log alone: which programs, policy and inventory were on the hooks, by digests; times without
/// enforcement; and times that no agent has attested, of what is asked for. Ends with 1 if there is either, or if
/// packets were only observed (mode audit). Only what is signed counts.
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
    /// Records behind the last checkpoint: not signed yet, and not counted.
    unsigned: u64,
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
        let mut records = Records::open(&self.source, global)?;
        for shown in records.by_ref() {
            let Shown { number, record, .. } = shown?;
            let is_after = |until| matches!(&record.event.kind, Kind::Coverage(is) if is.since >= until);
            if meant.since.is_none_or(|since| record.event.time > since) && !meant.until.is_some_and(is_after)
            {
                follower.take(number, &record.event);
            }
        }
        let found = Found { unsigned: records.unsigned()?, ..follower.asked(meant.since, meant.until) };
        if global.json {
            println!("{}", serde_json::to_string(&found)?);
        } else {
            found.show(&mut io::stdout().lock())?;
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
            let all = self.found.unenforced.entry(what.clone()).or_default();
            *all = all.saturating_add(*time);
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

    fn show(&self, out: &mut impl Write) -> io::Result<()> {
        if self.unsigned != 0 {
            let unsigned = self.unsigned;
            writeln!(
                out,
                "{unsigned} records behind the last checkpoint are not signed yet, and not counted"
            )?;
        }
        let (Some(from), Some(until)) = (self.from, self.until) else {
            return writeln!(
                out,
                "no coverage in the log: the agent writes it every `[events] attest_seconds`"
            );
        };
        let (from, until) = (from.milliseconds(), until.milliseconds());
        writeln!(out, "{} closed intervals, {from} to {until}", self.intervals)?;
        self.enforced.iter().try_for_each(|enforced| writeln!(out, "{enforced}"))?;
        for (what, time) in &self.unenforced {
            writeln!(out, "{}: not enforced for {} ms", plain(what), time.div_ceil(1_000_000))?;
        }
        self.not_whole.iter().try_for_each(|time| writeln!(out, "not whole {time}"))?;
        for time in &self.unattested {
            let same = "; the same programs were on the hooks before and after";
            writeln!(out, "not attested {time}{}", if time.same_programs { same } else { "" })?;
        }
        if self.altered != 0 {
            let words =
                "the tables were not what was approved; `bulkhead audit show --kind altered` lists them";
            writeln!(out, "in {} intervals {words}", self.altered)?;
        }
        let is_whole = self.is_whole();
        writeln!(
            out,
            "{}",
            if is_whole { "enforced all the time" } else { "NOT shown to be enforced all the time" }
        )
    }
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |digest: &Option<String>| {
            let digest = digest.as_deref().map_or("unknown", |digest| digest.get(..12).unwrap_or(digest));
            plain(digest).into_owned()
        };
        let Covered { generation, mode, policy, inventory, hooks, .. } = &self.covered;
        write!(
            f,
            "from {} generation {generation}, {}, policy {}, inventory {}, on {} hooks",
            self.from.milliseconds(),
            mode.name(),
            short(policy),
            short(inventory),
            hooks.len()
        )
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (self.from.milliseconds(), self.until.milliseconds());
        write!(f, "from {from} to {until} (record {})", self.record)
    }
}

#[cfg(test)]
mod tests;
