//! Section 9: what alarmed, and what the agent did.

use bulkhead_api::event::Outcome;
use maud::{Markup, html};

use super::words::{grouped, moment, text, times};
use crate::pack::{AgentsQuarantine, Alarms, AlarmsOfCause, RecordedEnd, TimeOfAlarm};

/// Causes and quarantines that are shown: of a page that is read.
const SHOWN: usize = 200;

/// Times of one cause that are shown.
const TIMES: usize = 12;

pub(super) fn alarms(of: &Alarms) -> Markup {
    html! {
        @if of.source.records.is_none() { p.unknown { "Not known: the log has no records of this time." } }
        @else {
            @if of.causes.is_empty() { p { "None: the log has no alarm of this time." } }
            @else {
                table {
                    thead { tr { th { "Alarm" } th { "Who, what" } th.right { "Raised" } th { "When, with records" } } }
                    tbody { @for cause in of.causes.iter().take(SHOWN) { (line(cause)) } }
                }
                @if of.causes.len() > SHOWN { p.more { "and " (of.causes.len() - SHOWN) " more; the JSON has all" } }
            }
            h3 { "Whom the agent quarantined by itself" }
            @if of.quarantines.is_empty() { p { "Nobody." } }
            @else {
                table {
                    thead { tr { th.right { "Record" } th { "When" } th { "Node" } th { "Why" } th { "Until" } } }
                    tbody { @for cut in of.quarantines.iter().take(SHOWN) { (quarantine(cut)) } }
                }
                @if of.quarantines.len() > SHOWN { p.more { "and " (of.quarantines.len() - SHOWN) " more; the JSON has all" } }
            }
        }
    }
}

fn line(of: &AlarmsOfCause) -> Markup {
    let named = [&of.source, &of.destination].into_iter().flatten();
    let named = named.map(String::as_str).collect::<Vec<_>>().join(" → ");
    html! {
        tr {
            td { code { (of.alarm.name()) } }
            td {
                @if !named.is_empty() { strong { (text(&named)) } br; }
                @if let Some(rule) = &of.rule { strong { (text(rule)) } br; }
                @if let Some(last) = of.times.last() { small { (text(&last.detail)) } }
            }
            td.right { @if of.raised == 0 { "before" } @else { (times(of.raised, "time")) } }
            td {
                @if of.times.len() > TIMES { small { "the last " (TIMES) " of " (grouped(of.times.len() as u64)) "; the JSON has all" } br; }
                @for time in of.times.iter().skip(of.times.len().saturating_sub(TIMES)) { div { (period(time)) } }
            }
        }
    }
}

fn period(time: &TimeOfAlarm) -> Markup {
    html! {
        (moment(time.since)) " " (at(time.record)) " to " (end(time.ended))
        @for record in &time.quarantines { " " span.badge.warn { "quarantined, record " (grouped(*record)) } }
    }
}

fn quarantine(cut: &AgentsQuarantine) -> Markup {
    html! {
        tr {
            td.right { span.digits { (grouped(cut.record)) } } td { (moment(cut.time)) }
            td { strong { (text(&cut.node)) } @if cut.outcome != Outcome::Done { " " span.badge.warn { (cut.outcome.name()) } } }
            td { @if let Some(detail) = &cut.detail { (text(detail)) } }
            td { @if cut.outcome == Outcome::Done { (end(cut.ended)) } @else { "–" } }
        }
    }
}

fn at(record: Option<u64>) -> Markup {
    html! {
        @match record {
            Some(record) => span.nowrap { "(record " (grouped(record)) ")" },
            None => span.unknown { "(no record of it)" },
        }
    }
}

fn end(ended: Option<RecordedEnd>) -> Markup {
    html! {
        @match ended {
            Some(end) => { (moment(end.time)) " " (at(Some(end.record))) },
            None => span.unknown { "no end on record" },
        }
    }
}
