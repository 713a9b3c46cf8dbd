//! `bulkhead audit balance`: whether every drop is told of, or counted as lost.

mod checker;

use std::io::{self, Write};

use bulkhead_api::event::Timestamp;

use self::checker::{Checker, Found, Loss, Open};
use super::source::{Records, Source};
use crate::exit::Answer;
use crate::global::Global;

/// Check that the log tells of every drop that the kernel counted.
///
/// To the packet: between any two balances in the log, the records in between tell of as many drops as the second has
/// more than the first, and each covers what the kernel's counters say. Ends with 1 if not, or if there is no balance.
/// Records of what the log has lost, and times that no two balances enclose, are told beside it. Only what is signed
/// counts.
#[derive(Debug, clap::Args)]
pub struct AuditBalance {
    #[command(flatten)]
    source: Source,
}

impl AuditBalance {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let mut checker = Checker::default();
        let mut records = Records::open(&self.source, global)?;
        for shown in records.by_ref() {
            let shown = shown?;
            checker.take(shown.number, &shown.record.event);
        }
        let found = Found { unsigned: records.unsigned()?, ..checker.end() };
        if global.json {
            println!("{}", serde_json::to_string(&found)?);
        } else {
            found.show(&mut io::stdout().lock())?;
        }
        Ok(if found.faults.is_empty() && found.balances != 0 { Answer::Yes } else { Answer::No })
    }
}

impl Found {
    fn show(&self, out: &mut impl Write) -> io::Result<()> {
        for fault in &self.faults {
            writeln!(out, "record {}, {}: {}", fault.record, fault.time.milliseconds(), fault.what)?;
        }
        for Loss { record, events, drops, cause, from, until } in &self.losses {
            let number = |number: &Option<u64>| {
                number.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string())
            };
            let (events, drops, cause) = (number(events), number(drops), cause.name());
            let span = span(*from, *until);
            writeln!(
                out,
                "the log has lost {events} events, of {drops} drops: {cause} (record {record}, {span})"
            )?;
        }
        for Open { from, until, told, why } in &self.open {
            let span = span(*from, *until);
            writeln!(out, "not closed {span}: {}; records tell of {told} drops there", why.words())?;
        }
        if self.unsigned != 0 {
            writeln!(
                out,
                "{} records behind the last checkpoint are not signed yet, and not counted",
                self.unsigned
            )?;
        }
        let (Some(from), Some(until)) = (self.from, self.until) else {
            return writeln!(
                out,
                "no balance in the log: the agent writes one every `[events] attest_seconds`"
            );
        };
        let Self { balances, intervals, dropped, told, unwritten, lost, unreported, .. } = self;
        let (from, until) = (from.milliseconds(), until.milliseconds());
        writeln!(out, "{balances} balances, {intervals} closed intervals, {from} to {until}")?;
        writeln!(out, "{dropped} dropped = {told} told + {unwritten} not written + {lost} lost")?;
        if *unreported != 0 {
            writeln!(out, "{unreported} more dropped and counted by reason, over the budget of reports")?;
        }
        match self.faults.len() {
            0 => writeln!(out, "balanced"),
            faults => writeln!(out, "NOT balanced: {faults} faults"),
        }
    }
}

/// A time between two balances, the first and the last of which may not be there.
fn span(from: Option<Timestamp>, until: Option<Timestamp>) -> String {
    match (from.map(Timestamp::milliseconds), until.map(Timestamp::milliseconds)) {
        (Some(from), Some(until)) => format!("from {from} to {until}"),
        (Some(from), None) => format!("since {from}"),
        (None, Some(until)) => format!("before {until}"),
        (None, None) => "at an unknown time".to_owned(),
    }
}
