//! Sections 7 and 8: who changed what, and times without enforcement.

use bulkhead_api::event::{Effect, Outcome};
use bulkhead_api::history::Summary;
use maud::{Markup, html};

use super::words::{grouped, moment, short, span, text};
use crate::pack::{Change, Changes, Unenforced};

/// Lines of a difference that are shown.
const LINES: usize = 12;

/// Changes that are shown: of a page that is read.
const SHOWN: usize = 200;

pub(super) fn changes(changes: &Changes) -> Markup {
    let all = &changes.changes;
    html! {
        @if changes.source.records.is_none() { p.unknown { "Not known: the log has no records of this time." } }
        @else if all.is_empty() { p { "None." } }
        @else {
            @if all.len() > SHOWN { p.more { "The last " (SHOWN) " of " (grouped(all.len() as u64)) "; the JSON has all." } }
            table.changes {
                thead { tr { th.right { "Record" } th { "When" } th { "Who" } th { "What" } th { "Generation" } th { "Difference" } } }
                tbody { @for change in all.iter().skip(all.len().saturating_sub(SHOWN)) { (line(change)) } }
            }
        }
    }
}

fn line(change: &Change) -> Markup {
    html! {
        tr {
            td.right { span.digits { (grouped(change.record)) } }
            td { (moment(change.time)) }
            td { (text(&change.who)) }
            td {
                strong { (change.action.name()) }
                @if change.outcome != Outcome::Done { " " span.badge.warn { (change.outcome.name()) } }
                @if let Some(subject) = &change.subject { " " (text(subject)) }
                @if let Some(detail) = &change.detail { br; small { (text(detail)) } }
            }
            td {
                @if change.generation_before == change.generation { (change.generation) } @else { span.nowrap { (change.generation_before) " → " (change.generation) } }
                @if change.policy.is_some() { br; (short(change.policy.as_deref())) }
            }
            td {
                @match &change.difference {
                    Some(difference) => (lines(difference)),
                    None if change.generation_before == change.generation => "–",
                    None => span.unknown { "not kept" },
                }
            }
        }
    }
}

fn lines(difference: &Summary) -> Markup {
    let more = difference.lines.len().saturating_sub(LINES).saturating_add(difference.more);
    html! {
        @if difference.lines.is_empty() { "nothing is admitted otherwise" }
        @else {
            pre {
                @for line in difference.lines.iter().take(LINES) {
                    span class=(match line.as_bytes().first() { Some(b'+') => "plus", Some(b'-') => "minus", _ => "other" }) { (text(line)) } "\n"
                }
            }
        }
        @if more != 0 { small { "and " (grouped(more as u64)) " more lines" } }
    }
}

pub(super) fn unenforced(of: &Unenforced) -> Markup {
    html! {
        @if of.source.records.is_none() { p.unknown { "Not known: the log has no records of this time." } }
        @else {
            @if of.times.is_empty() { p { "No record tells of one." } }
            @else {
                table {
                    thead { tr { th.right { "Record" } th { "Interface" } th { "From, at the earliest" } th { "Until" } th.right { "Time" } th { "Cause" } th { "Packets" } th { "Agent" } } }
                    tbody {
                        @for time in of.times.iter().take(SHOWN) {
                            tr {
                                td.right { span.digits { (grouped(time.record)) } } td { (text(&time.interface)) } td { (moment(time.from)) } td { (moment(time.until)) }
                                td.right { (span(time.milliseconds.saturating_mul(1_000_000))) } td { (text(&time.cause)) }
                                td { (effect(time.effect)) } td { @if time.agent { "ran" } @else { "did not run all the time" } }
                            }
                        }
                    }
                }
                @if of.times.len() > SHOWN { p.more { "and " (of.times.len() - SHOWN) " more; the JSON has all" } }
            }
            h3 { "What in the kernel was not what was approved" }
            @if of.altered.is_empty() { p { "No record tells of any." } }
            @else {
                table {
                    thead { tr { th.right { "Record" } th { "When" } th { "What" } th { "Should be" } th { "Was" } } }
                    tbody {
                        @for altered in of.altered.iter().take(SHOWN) {
                            tr { td.right { span.digits { (grouped(altered.record)) } } td { (moment(altered.time)) } td { (text(&altered.what)) } td { (text(&altered.expected)) } td { (text(&altered.found)) } }
                        }
                    }
                }
                @if of.altered.len() > SHOWN { p.more { "and " (of.altered.len() - SHOWN) " more; the JSON has all" } }
            }
        }
    }
}

fn effect(effect: Effect) -> Markup {
    html! {
        @match effect {
            Effect::None => "were judged all the same",
            Effect::Closed => "were dropped by the guard",
            Effect::Open => span.bad { "may have passed unjudged" },
        }
    }
}
