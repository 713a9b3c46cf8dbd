//! Sections 4 to 6: rules, and their use.

use maud::{Markup, html};

use super::coverage::more;
use super::words::{grouped, text, times};
use crate::pack::{RuleLine, Rules, Side, Staged, Standing};

/// Who or what of a side is named.
const NAMED: usize = 12;

pub(super) fn all(rules: &Rules) -> Markup {
    html! {
        @if rules.rules.is_empty() { p { "The policy has no rules." } }
        @else {
            table.rules {
                thead { tr { th.right { "#" } th { "Rule" } th { "Owner, ticket, reason" } th { "Review by" } th.right { "Use" } th { "Last used" } th { "Standing" } } }
                tbody { @for rule in &rules.rules { (line(rule)) } }
            }
            p.legend { "Use of rules that admit is counted in looks at the table of flows, one a minute; of rules that deny, in packets." }
        }
    }
}

fn line(rule: &RuleLine) -> Markup {
    html! {
        tr {
            td.right { (rule.number) }
            td {
                (title(rule))
                @if let Some(words) = &rule.text { br; code.rule { (text(&one_line(words))) } }
            }
            td {
                @match &rule.owner { Some(owner) => strong { (text(owner)) }, None => span.warn { "no owner" } }
                @if let Some(ticket) = &rule.ticket { " · " (text(ticket)) }
                @if let Some(reason) = &rule.reason { br; (text(reason)) }
            }
            td {
                @match &rule.review_by {
                    Some(day) if rule.is_overdue => { span.badge.bad { "overdue" } " " span.nowrap { (day) } },
                    Some(day) => span.nowrap { (day) },
                    None => "–",
                }
                @if let Some(day) = &rule.expires { br; "ends " (day) }
            }
            td.right { (used(rule)) }
            td { @match &rule.used.last { Some(day) => span.nowrap { (day) }, None => "–" } }
            td { (standing(rule.standing)) @if let Some(why) = &rule.why { br; small { (text(why)) } } }
        }
    }
}

fn used(rule: &RuleLine) -> Markup {
    let used = &rule.used;
    html! {
        @match (used.last.is_some(), rule.admits) {
            (false, _) if matches!(rule.standing, Standing::NotKnown | Standing::Elsewhere) => span.unknown { "not known" },
            (false, _) => "none",
            (true, true) => (times(used.looks, "look")),
            (true, false) => (times(used.packets, "packet")),
        }
    }
}

/// A rule's name and where it stands.
fn title(rule: &RuleLine) -> Markup {
    html! {
        @match &rule.name { Some(name) => strong { (text(name)) }, None => strong { "rule " (rule.number) } }
        @if !rule.admits { " " span.badge { "deny" } }
        @if let Some(position) = &rule.position { " " small { (text(position)) } }
    }
}

fn standing(standing: Standing) -> Markup {
    let (class, name) = match standing {
        Standing::AsUsed => ("good", "as used"),
        Standing::Unused => ("bad", "unused"),
        Standing::Wider => ("warn", "wider than its use"),
        Standing::Kept => ("", "stays"),
        Standing::NotKnown => ("unknown", "not known"),
        Standing::Elsewhere => ("unknown", "used elsewhere, too"),
    };
    html! { span class={ "badge " (class) } { (name) } }
}

/// A rule without the line breaks of its file.
fn one_line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn findings(rules: &Rules) -> Markup {
    let of = |standing| rules.rules.iter().filter(move |rule| rule.standing == standing);
    html! {
        h3 { "Never used" }
        @if of(Standing::Unused).next().is_none() { p { "None." } }
        @else {
            ul { @for rule in of(Standing::Unused) { li { (title(rule)) @if let Some(owner) = &rule.owner { ", " (text(owner)) } } } }
        }
        h3 { "Wider than their use" }
        @if of(Standing::Wider).next().is_none() { p { "None." } }
        @for rule in of(Standing::Wider) {
            div.finding {
                p { (title(rule)) @if let Some(owner) = &rule.owner { ", " (text(owner)) } }
                ul { @for side in &rule.wider { li { (wider(side)) } } }
                @if let Some(narrower) = &rule.narrower {
                    p.label { "Narrower, with the use of this time:" }
                    pre { @for line in narrower.lines() { (text(line.trim_start())) "\n" } }
                }
            }
        }
    }
}

fn wider(side: &Side) -> Markup {
    let named: Vec<_> = side.used.iter().take(NAMED).map(|word| text(word)).collect();
    html! {
        (side.what) ": " (grouped(side.used.len() as u64)) " of " (grouped(side.has as u64)) " used"
        @if !named.is_empty() { ": " (named.join(", ")) }
        @if side.used.len() > NAMED { " and " (side.used.len() - NAMED) " more" }
    }
}

pub(super) fn staged(staged: &Staged) -> Markup {
    html! {
        @if staged.lines.is_empty() { p { "Nothing was seen: no policy was staged, or it would have stopped nothing that passed." } }
        @else {
            table {
                thead { tr { th { "From" } th { "To" } th { "Port" } th.right { "Packets" } th { "Last on" } } }
                tbody {
                    @for line in staged.lines.iter().take(40) {
                        tr {
                            td { (text(&line.source)) } td { (text(&line.destination)) }
                            td { @if let Some(port) = line.port { (port) "/" } (text(&line.protocol)) }
                            td.right { (grouped(line.packets)) } td { (line.last) }
                        }
                    }
                }
            }
            (more(staged.lines.len(), "conversations"))
        }
    }
}
