//! The page's beginning and end: whose review it is, what needs attention, and where it is signed.

use bulkhead_api::mode::Mode;
use bulkhead_api::tls::Began;
use maud::{Markup, html};

use super::words::{grouped, moment, percent, short, span, text, times};
use crate::pack::{Pack, RuleLine, Standing};

pub(super) fn top(pack: &Pack, title: &str) -> Markup {
    let head = &pack.head;
    html! {
        header {
            h1 { (text(title)) }
            p.lead { (moment(head.since)) " to " (moment(head.made)) ", made on " strong { (text(&head.host)) } " by Bulkhead " (head.version) }
            (figures(pack))
            (attention(pack))
            (facts(pack))
        }
    }
}

/// The figures that a reader takes away.
fn figures(pack: &Pack) -> Markup {
    let shares = pack.coverage.shares;
    let all = shares.enforced + shares.audit + shares.unenforced + shares.unknown;
    let rules = &pack.rules.rules;
    let of = |standing| rules.iter().filter(|rule| rule.standing == standing).count() as u64;
    let (unused, wider) = (of(Standing::Unused), of(Standing::Wider));
    let dropped: u64 = pack.drops.reasons.iter().map(|of| of.dropped).fold(0, u64::saturating_add);
    let lost = pack.losses.lost.len() as u64;
    let open = pack.losses.open.len() as u64;
    let share = percent(shares.enforced, all);
    html! {
        ul.figures {
            (figure("#coverage", &share, "of the time shown to be enforced", shares.enforced == all))
            (figure("#rules", &grouped(rules.len() as u64), &format!("rules: {unused} unused, {wider} too wide"), unused + wider == 0))
            @if pack.head.log.read.is_none() {
                (figure("#drops", "not known", "packets dropped", false))
            } @else {
                (figure("#drops", &grouped(dropped), "packets dropped, with a record", true))
            }
            (figure("#changes", &grouped(pack.changes.changes.len() as u64), "changes and attempts", true))
            (figure("#unenforced", &grouped(pack.unenforced.times.len() as u64), "times without enforcement", pack.unenforced.times.is_empty()))
            (figure("#losses", &grouped(lost + open), "losses and open balances", lost + open == 0))
        }
    }
}

fn figure(link: &str, number: &str, words: &str, is_well: bool) -> Markup {
    html! {
        li class=(if is_well { "figure" } else { "figure look" }) {
            a href=(link) { strong { (number) } span { (words) } }
        }
    }
}

/// What a reviewer has to decide on.
fn attention(pack: &Pack) -> Markup {
    let points = points(pack);
    html! {
        div.attention {
            h2 { "What needs attention" }
            @if points.is_empty() {
                p { "Nothing: the whole time is shown to be enforced, every rule was used and has an owner, and every drop is accounted for." }
            } @else {
                ul { @for (link, words) in &points { li { a href=(link) { (text(words)) } } } }
            }
        }
    }
}

fn points(pack: &Pack) -> Vec<(&'static str, String)> {
    let shares = pack.coverage.shares;
    let rules = &pack.rules.rules;
    let count = |is: fn(&&RuleLine) -> bool| rules.iter().filter(is).count() as u64;
    let mut points = Vec::new();
    let mut point = |link, is_one: bool, words: String| {
        if is_one {
            points.push((link, words));
        }
    };
    if let Some(tls) = &pack.tls {
        let plaintext = tls.count(Began::Plaintext) as u64;
        point("#tls", plaintext != 0, format!("{} in plaintext", times(plaintext, "service port")));
        let invalid = tls.invalid() as u64;
        point(
            "#tls",
            invalid != 0,
            format!("{} whose certificate is not valid", times(invalid, "service port")),
        );
        let files = tls.files.iter().filter(|file| file.problem.is_some()).count() as u64;
        point("#tls", files != 0, format!("{} that cannot be read", times(files, "certificate file")));
    }
    let faults = pack.head.log.faults.len() as u64;
    point("#log", faults != 0, format!("The event log is not as it was signed: {}", times(faults, "fault")));
    point(
        "#log",
        pack.head.log.signed_by.is_empty(),
        "The checkpoint is signed by no key that is known".to_owned(),
    );
    let unenforced = format!("For {} an interface was not enforced", span(shares.unenforced));
    point("#coverage", shares.unenforced != 0, unenforced);
    let audit = format!("For {} packets were observed and not stopped (mode audit)", span(shares.audit));
    point("#coverage", shares.audit != 0, audit);
    let unknown = format!("For {} nobody has attested what was enforced", span(shares.unknown));
    point("#coverage", shares.unknown != 0, unknown);
    let altered = pack.unenforced.altered.len() as u64;
    let words = format!("{} of what runs in the kernel from what was approved", times(altered, "difference"));
    point("#unenforced", altered != 0, words);
    let overdue = count(|rule| rule.is_overdue);
    point("#rules", overdue != 0, format!("{} whose review is overdue", times(overdue, "rule")));
    let ownerless = count(|rule| rule.owner.is_none() && rule.text.is_some());
    point("#rules", ownerless != 0, format!("{} without an owner", times(ownerless, "rule")));
    let unused = count(|rule| rule.standing == Standing::Unused);
    point("#least", unused != 0, format!("{} that nobody used", times(unused, "rule")));
    let wider = count(|rule| rule.standing == Standing::Wider);
    point("#least", wider != 0, format!("{} wider than the use of it", times(wider, "rule")));
    let unjudged = count(|rule| matches!(rule.standing, Standing::NotKnown | Standing::Elsewhere));
    point(
        "#rules",
        unjudged != 0,
        format!(
            "{} not judged: not known for all the time, or used on other hosts too",
            times(unjudged, "rule")
        ),
    );
    let raised = pack.alarms.causes.iter().map(|of| of.raised).sum();
    point("#alarms", raised != 0, format!("{} raised", times(raised, "alarm")));
    let cut = pack.alarms.quarantines.len() as u64;
    point("#alarms", cut != 0, format!("{} by the agent itself", times(cut, "quarantine")));
    let lost = pack.losses.lost.len() as u64;
    point("#losses", lost != 0, format!("{} of events that the log has not got", times(lost, "report")));
    let open = pack.losses.open.len() as u64;
    point("#losses", open != 0, format!("{} open", times(open, "balance")));
    point("#losses", pack.losses.balances == 0, "No account of drops was closed in this time".to_owned());
    points
}

/// What it was made from.
fn facts(pack: &Pack) -> Markup {
    let head = &pack.head;
    let log = &head.log;
    html! {
        table.facts {
            tbody {
                tr { th { "Nodes" } td { (text(&head.nodes.join(", "))) } }
                tr {
                    th { "Enforced last" }
                    td {
                        @match &head.enforced {
                            Some(last) => {
                                @let of = &last.of;
                                @if of.generation == 0 { "nothing" } @else { "generation " (of.generation) ", " (mode(of.mode)) ", policy " (short(of.policy.as_deref())) ", inventory " (short(of.inventory.as_deref())) }
                                ", at " (moment(last.time)) " (record " (grouped(last.record)) ")"
                            },
                            None => span.unknown { "not known: the log has no coverage of this time" },
                        }
                    }
                }
                tr { th { "Rules judged" } td { (text(&head.policy.name)) " " code.digest { (head.policy.sha256) } @if !head.is_enforced { ", named by who made this" } } }
                tr { th { "Names from" } td { (text(&head.inventory.name)) " " code.digest { (head.inventory.sha256) } } }
                tr id="log" {
                    th { "Event log" }
                    td {
                        (text(&log.origin)) ", checkpoint of " strong { (grouped(log.size)) } " records, root " code.digest { (text(&log.root)) } br;
                        @if log.signed_by.is_empty() { span.bad { "signed by no key that is known" } } @else { "signed by " (text(&log.signed_by.join(", "))) }
                        @if log.faults.is_empty() { "; every record verified against this root" }
                        @for fault in &log.faults { br; span.bad { (text(fault)) } }
                        @if let Some(begins) = log.begins.filter(|begins| *begins > head.since) { br; span.unknown { "begins at " (moment(begins)) ": what lies before is not known from it" } }
                        @if log.unsynchronized != 0 { br; span.unknown { (times(log.unsynchronized, "record")) " written while nobody kept the clock in time (NTP, PTP)" } }
                    }
                }
            }
        }
    }
}

pub(super) fn mode(mode: Mode) -> Markup {
    html! { @if mode == Mode::Enforce { "enforce" } @else { span.warn { "audit" } } }
}

/// How to check it, and where it is signed.
pub(super) fn bottom(pack: &Pack) -> Markup {
    let log = &pack.head.log;
    html! {
        section.check {
            h2 { "How to check this" }
            p { "Each figure names the records, or the history, that it was counted from. Record numbers are those of " code { "bulkhead audit show" } "; " code { "bulkhead audit proof NUMBER" } " gives a proof that a record is in the log of this checkpoint, and " code { "bulkhead audit verify" } " verifies the log as a whole. The checkpoint's root is " code.digest { (text(&log.root)) } " at " (grouped(log.size)) " records. The history is a database of the agent and is not signed." }
        }
        section.sign {
            h2 { "Review" }
            table {
                tbody {
                    @for what in ["Reviewed by", "Function", "Decision and remarks", "Date", "Signature"] {
                        tr { th { (what) } td {} }
                    }
                }
            }
        }
    }
}
