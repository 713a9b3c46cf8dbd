//! The fleet as one page: no script, nothing from elsewhere, and every text of hosts escaped.

use bulkhead_api::text::{grouped, plain as text};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::report::Review;
use crate::standing::{Digest, Fleet, Judged, Trouble};

const STYLE: &str = include_str!("style.css");

/// Nodes that a page lists: those with troubles first.
const MOST_NODES: usize = 2000;

/// Troubles of a node that are listed.
const MOST_TROUBLES: usize = 8;

/// What a browser may do with the page: show it.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's HTML. It loads itself anew each half minute.
#[must_use]
pub fn render(fleet: &Fleet) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                meta http-equiv="refresh" content="30";
                meta name="color-scheme" content="light dark";
                title { "Fleet" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Fleet" }
                p.lead { "As the collector knows it at " (moment(fleet.time)) }
                (figures(fleet))
                (attention(fleet))
                (section("digests", "Policies and inventories", &digests(fleet)))
                (section("denials", "Top denials", &denials(fleet)))
                (section("review", "Review of rules", &review(fleet)))
                (section("nodes", "Nodes", &nodes(fleet)))
            }
        }
    };
    page.into_string()
}

fn section(id: &str, title: &str, content: &Markup) -> Markup {
    html! { section id=(id) { h2 { (title) } (content) } }
}

fn figures(fleet: &Fleet) -> Markup {
    let all = fleet.states.values().sum::<u64>();
    let enforced = fleet.states.get("enforced").copied().unwrap_or(0);
    let with = |trouble| {
        fleet.nodes.iter().filter(|node| node.troubles.iter().any(|(of, _)| *of == trouble)).count() as u64
    };
    html! {
        ul.figures {
            (figure(&format!("{} of {}", grouped(enforced), grouped(all)), "nodes enforced", enforced == all))
            (figure(&grouped(with(Trouble::Behind)), "behind", with(Trouble::Behind) == 0))
            (figure(&grouped(with(Trouble::Silent)), "silent", with(Trouble::Silent) == 0))
            (figure(&grouped(with(Trouble::RolledBack)), "rolled back", with(Trouble::RolledBack) == 0))
            (figure(&grouped(with(Trouble::Evidence)), "with findings in their evidence", with(Trouble::Evidence) == 0))
            (figure(&grouped(fleet.records), "records collected", true))
        }
    }
}

fn figure(number: &str, words: &str, is_well: bool) -> Markup {
    html! { li.figure.look[!is_well] { strong { (number) } span { (words) } } }
}

fn attention(fleet: &Fleet) -> Markup {
    let wrong: Vec<&Judged> = fleet.nodes.iter().filter(|node| !node.troubles.is_empty()).collect();
    html! {
        section id="attention" {
            h2 { "What needs attention" }
            @if wrong.is_empty() { p { "Nothing: every node was heard of, is enforced and current, and its evidence is whole." } }
            @else {
                table {
                    thead { tr { th { "Node" } th { "What" } th { "In words" } } }
                    tbody {
                        @for node in wrong.iter().take(MOST_NODES) {
                            @for (trouble, words) in node.troubles.iter().take(MOST_TROUBLES) {
                                tr { td { (name(node)) } td.word { (badge(*trouble)) } td { (text(words)) } }
                            }
                        }
                    }
                }
                @if wrong.len() > MOST_NODES { p { "and " (wrong.len() - MOST_NODES) " more nodes" } }
            }
        }
    }
}

fn badge(trouble: Trouble) -> Markup {
    let is_bad = matches!(trouble, Trouble::Evidence | Trouble::Unenforced);
    html! { span.badge.bad[is_bad].warn[!is_bad] { (trouble.name()) } }
}

fn name(node: &Judged) -> Markup {
    html! { @if node.standing.node.is_empty() { em { "not known" } } @else { (text(&node.standing.node)) } }
}

fn digests(fleet: &Fleet) -> Markup {
    html! {
        table {
            thead { tr { th { "File" } th { "Version" } th { "SHA-256" } th.right { "Nodes" } } }
            tbody {
                @for (what, of) in [("policy", &fleet.policies), ("inventory", &fleet.inventories)] {
                    @for Digest { version, sha256, nodes } in of {
                        tr {
                            td.word { (what) }
                            td { @match version { Some(version) => (version), None => span.unknown { "not the fleet's" } } }
                            td { @match sha256 { Some(sha256) => code.digest { (text(sha256)) }, None => span.unknown { "not known" } } }
                            td.right { (grouped(*nodes)) }
                        }
                    }
                }
            }
        }
    }
}

fn denials(fleet: &Fleet) -> Markup {
    html! {
        @if fleet.denied.is_empty() { p { "None." } }
        @else {
            table {
                thead { tr { th { "Reason" } th { "Direction" } th.right { "Packets" } th.right { "Nodes" } } }
                tbody {
                    @for (denied, nodes) in &fleet.denied {
                        tr { td { code { (text(&denied.reason)) } } td { (text(&denied.direction)) } td.right { (grouped(denied.packets)) } td.right { (grouped(*nodes)) } }
                    }
                }
            }
        }
    }
}

/// What the policies that nodes enforce say of who answers for their rules: one line a policy.
fn review(fleet: &Fleet) -> Markup {
    let mut all: Vec<(Option<&str>, &Review, u64)> = Vec::new();
    for heard in fleet.nodes.iter().filter_map(|node| node.standing.heard.as_ref()) {
        let Some(review) = &heard.report.review else { continue };
        let digest = heard.report.policy.sha256.as_deref();
        match all.iter_mut().find(|(of, known, _)| *of == digest && *known == review) {
            Some((.., nodes)) => *nodes += 1,
            None => all.push((digest, review, 1)),
        }
    }
    html! {
        @if all.is_empty() { p { "No node says who answers for its rules." } }
        @else {
            table {
                thead { tr { th { "Policy" } th.right { "Rules" } th.right { "Without owner" } th.right { "Overdue" } th { "Next review" } th.right { "Nodes" } } }
                tbody {
                    @for (digest, review, nodes) in all.iter().take(32) {
                        tr {
                            td { @match digest { Some(digest) => code { (text(digest.get(..12).unwrap_or(digest))) }, None => span.unknown { "not known" } } }
                            td.right { (grouped(review.rules)) }
                            td.right { (grouped(review.ownerless)) }
                            td.right.bad[review.overdue != 0] { (grouped(review.overdue)) }
                            td { (text(review.next.as_deref().unwrap_or("none"))) }
                            td.right { (grouped(*nodes)) }
                        }
                    }
                }
            }
        }
    }
}

fn nodes(fleet: &Fleet) -> Markup {
    let heard = |node: &Judged| match node.heard_seconds {
        Some(seconds) => format!("{seconds} s ago"),
        None => "never".to_owned(),
    };
    html! {
        table {
            thead { tr { th { "Node" } th { "State" } th.right { "Generation" } th { "Policy" } th { "Version" } th.right { "Records" } th.right { "Dropped" } th { "Heard" } } }
            tbody {
                @for node in fleet.nodes.iter().filter(|node| !node.standing.node.is_empty()).take(MOST_NODES) {
                    @let report = node.standing.heard.as_ref().map(|heard| &heard.report);
                    tr {
                        td { (name(node)) }
                        td.word { @match report { Some(report) => span.good[report.state.name() == "enforced"].bad[report.state.name() != "enforced"] { (report.state.name()) }, None => span.unknown { "not known" } } }
                        td.right { @if let Some(report) = report { (report.generation) } }
                        td { @if let Some(sha256) = report.and_then(|report| report.policy.sha256.as_deref()) { code { (text(sha256.get(..12).unwrap_or(sha256))) } } }
                        td { @if let Some(report) = report { (text(&report.version)) } }
                        td.right { (grouped(node.standing.records)) }
                        td.right { @if let Some(report) = report { (grouped(report.dropped())) } }
                        td.word { (heard(node)) }
                    }
                }
            }
        }
        @if fleet.nodes.len() > MOST_NODES { p { "and more; " code { "bulkhead fleet status" } " lists all" } }
    }
}

/// A time to the second, UTC.
fn moment(time: u64) -> String {
    let words = bulkhead_api::event::Timestamp::from_unix(time).to_string();
    format!("{} {}Z", words.get(..10).unwrap_or_default(), words.get(11..19).unwrap_or_default())
}
