//! What a change adds, removes and admits on other terms, in words.

use std::fmt::Write as _;

use bulkhead_policy::diff::{Apart, Difference, Flows, Terms};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Names, cut where a line would be endless.
fn names(list: &[String]) -> String {
    const MOST: usize = 8;
    let mut text = list.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if list.len() > MOST {
        let _ = write!(text, " and {} more", list.len() - MOST);
    }
    text
}

/// Ends, by the selectors that mean exactly them if there are any.
pub fn ends(selectors: &[String], list: &[String]) -> String {
    if selectors.is_empty() { names(list) } else { format!("{} ({})", names(selectors), names(list)) }
}

/// What a flow is admitted on, in words; none if nothing limits it.
fn terms(terms: Terms) -> Vec<String> {
    let packets = terms.packets.map(|rate| format!("at most {rate} packets a second"));
    let flows = terms.new_flows.map(|rate| format!("at most {rate} new flows a second"));
    let one_way = terms.one_way.then(|| "one-way".to_string());
    let tls = terms.tls.map(|tls| tls.words());
    packets.into_iter().chain(flows).chain(one_way).chain(tls).collect()
}

fn or_no_limit(terms: Vec<String>) -> String {
    if terms.is_empty() { "no limit".into() } else { terms.join(" and ") }
}

/// Family, time and terms, where they matter.
pub fn conditions(flows: &Flows, before: Option<Terms>) -> Vec<String> {
    let time = |word: &str, nanoseconds: Option<u64>| {
        let at = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds?.into()).ok()?;
        Some(format!("{word} {}", at.format(&Rfc3339).ok()?))
    };
    let family =
        flows.family.map(|family| if family == "ipv4" { "IPv4 only" } else { "IPv6 only" }.to_string());
    let terms = match before {
        None => terms(flows.terms),
        Some(before) => {
            let word = if flows.terms.widen(before) { "wider" } else { "narrower" };
            let (before, after) = (or_no_limit(terms(before)), or_no_limit(terms(flows.terms)));
            vec![format!("{word}: {after}, before {before}")]
        }
    };
    let times = time("from", flows.from).into_iter().chain(time("until", flows.until));
    family.into_iter().chain(times).chain(terms).collect()
}

/// Every part of a difference: its sign, its flows, and the terms before it if they changed.
pub fn parts(difference: &Difference) -> impl Iterator<Item = (char, &Flows, Option<Terms>)> {
    let added = difference.added.iter().map(|flows| ('+', flows, None));
    let removed = difference.removed.iter().map(|flows| ('-', flows, None));
    let changed = difference.changed.iter().map(|changed| ('~', &changed.flows, Some(changed.before)));
    added.chain(removed).chain(changed)
}

/// A difference, a line for each part; none if there is none.
pub fn lines(difference: &Difference) -> Vec<String> {
    let line = |(sign, flows, before): (char, &Flows, Option<Terms>)| {
        let conditions = conditions(flows, before);
        let conditions =
            if conditions.is_empty() { String::new() } else { format!("  ({})", conditions.join(", ")) };
        format!(
            "{sign} {} -> {}  {}{conditions}",
            ends(&flows.from_selectors, &flows.sources),
            ends(&flows.to_selectors, &flows.destinations),
            flows.services.join(" ")
        )
    };
    parts(difference).map(line).chain(remarks(difference)).collect()
}

/// What should be seen at once.
pub fn remarks(difference: &Difference) -> impl Iterator<Item = String> {
    apart(difference).chain(widened(difference))
}

/// Limits that are counted more than once after the change.
fn apart(difference: &Difference) -> impl Iterator<Item = String> {
    difference.apart.iter().map(|Apart { rule, terms: limit, now }| {
        format!(
            "wider: {} of {rule} is counted by each of {} now",
            terms(*limit).join(" and "),
            now.join(", ")
        )
    })
}

/// What the additions are about that should be seen at once.
fn widened(difference: &Difference) -> impl Iterator<Item = String> {
    let venues = difference.widened_venues.iter().map(|name| format!("widened: {name}"));
    let boundaries = difference.widened_boundaries.iter().map(|name| format!("widened: boundary {name}"));
    venues.chain(boundaries)
}
