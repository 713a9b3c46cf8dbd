//! Short words for what packets have in common.

use bulkhead_api::event::{Direction, Drop, End, Event, Kind, Rule};
use bulkhead_api::text::plain;

/// What became of packets, and these; none: it tells of no packets.
pub fn packets(event: &Event) -> Option<(&'static str, &Drop)> {
    let what = match &event.kind {
        Kind::Drop(drop) if drop.audit => "audit",
        Kind::Drop(_) => "drop",
        Kind::WouldDiffer(differs) if differs.enforced.passed => "staged-",
        Kind::WouldDiffer(_) => "staged+",
        _ => "allow",
    };
    Some((what, event.packets()?))
}

/// Who an end is: the node by its name, else the address.
pub fn end(end: Option<&End>) -> String {
    let Some(End { address, name, route, .. }) = end else { return "unparsed".to_owned() };
    match (name, route) {
        (Some(name), Some(_)) => plain(&format!("{address} by {name}")).into_owned(),
        (Some(name), None) => plain(name).into_owned(),
        (None, _) => address.to_string(),
    }
}

/// To whom, where many may be told of in one.
pub fn destination(drop: &Drop) -> String {
    match &drop.destination {
        None if drop.many => "many".to_owned(),
        None if drop.ethertype.is_some() => "-".to_owned(),
        known => end(known.as_ref()),
    }
}

/// From whom.
pub fn source(drop: &Drop) -> String {
    match (&drop.source, drop.ethertype) {
        (None, Some(kind)) => kind.name().map_or_else(|| kind.to_string(), str::to_owned),
        (None, None) if drop.many => "many".to_owned(),
        (known, _) => end(known.as_ref()),
    }
}

/// `in` or `out`.
pub fn direction(drop: &Drop) -> &'static str {
    match drop.direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
    }
}

/// The port and the protocol, such as `443/tcp`.
pub fn port(drop: &Drop) -> String {
    match (drop.destination_port, drop.protocol) {
        (Some(port), Some(protocol)) => format!("{port}/{protocol}"),
        (None, Some(protocol)) => protocol.to_string(),
        _ => "-".to_owned(),
    }
}

/// A rule by its name, else by its number.
pub fn rule(rule: &Rule) -> String {
    plain(&rule.title()).into_owned()
}

/// The text in exactly so many columns: filled up, or cut with an ellipsis in its place.
pub fn fit(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return format!("{text}{}", " ".repeat(width - length));
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}
