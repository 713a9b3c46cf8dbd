//! Lines of earlier agents: drops without `kind`, whose ends are fields of their own and partly prose.

use std::net::IpAddr;

use serde::Deserialize;

use super::{
    Direction, Drop, End, Enforced, EtherType, Event, Kind, Missed, Protocol, Reason, Rule, Timestamp,
    WouldDiffer,
};

/// What such a line has.
#[derive(Deserialize)]
struct Earlier {
    time: Timestamp,
    direction: Direction,
    source: Option<IpAddr>,
    source_name: Option<String>,
    source_port: u16,
    destination: Option<IpAddr>,
    destination_name: Option<String>,
    port: u16,
    protocol: String,
    ethertype: Option<EtherType>,
    interface: String,
    count: u64,
    bytes: u64,
    generation: u32,
    audit: bool,
    #[serde(default)]
    many: bool,
    #[serde(flatten)]
    decision: Decision,
    enforced: Option<Other>,
}

#[derive(Deserialize)]
struct Decision {
    reason: Reason,
    rule: Option<u32>,
    rule_name: Option<String>,
    position: Option<String>,
}

#[derive(Deserialize)]
struct Other {
    passed: bool,
    #[serde(flatten)]
    decision: Decision,
}

/// The event of a line; none if it is not one of these either.
pub(super) fn read(line: &[u8]) -> Option<Event> {
    let Ok(earlier) = serde_json::from_slice::<Earlier>(line) else {
        let missed: Missed = serde_json::from_slice(line).ok()?;
        return Some(Event {
            time: Timestamp::from_unix(0),
            node: String::new(),
            kind: Kind::Missed(missed),
        });
    };
    let (reason, rule) = (earlier.decision.reason, rule(&earlier.decision));
    let protocol = Protocol::of(&earlier.protocol);
    let has_ports = protocol.is_some_and(Protocol::has_ports);
    let drop = Drop {
        direction: earlier.direction,
        source: earlier.source.map(|address| end(address, earlier.source_name)),
        source_port: Some(earlier.source_port).filter(|port| has_ports && *port != 0),
        destination: earlier.destination.map(|address| end(address, earlier.destination_name)),
        destination_port: Some(earlier.port).filter(|_| has_ports),
        protocol: protocol.filter(|_| earlier.ethertype.is_none()),
        ethertype: earlier.ethertype,
        reason,
        rule,
        interface: Some(earlier.interface).filter(|name| name != "any"),
        count: earlier.count,
        bytes: earlier.bytes,
        generation: earlier.generation,
        audit: earlier.audit,
        odd: false,
        many: earlier.many,
    };
    let kind = match earlier.enforced {
        None => Kind::Drop(Box::new(drop)),
        Some(Other { passed, decision }) => {
            let enforced = Enforced { reason: decision.reason, passed, rule: self::rule(&decision) };
            Kind::WouldDiffer(Box::new(WouldDiffer { staged: drop, enforced }))
        }
    };
    Some(Event { time: earlier.time, node: String::new(), kind })
}

fn rule(decision: &Decision) -> Option<Rule> {
    let Decision { rule, rule_name, position, .. } = decision;
    rule.map(|number| Rule::plain(number, rule_name.clone(), position.clone()))
}

/// The name of a host behind a route was `gateway-a (route 10.0.0.0/8)`.
fn end(address: IpAddr, name: Option<String>) -> End {
    let routed = name.as_deref().and_then(|name| {
        let (node, rest) = name.split_once(" (route ")?;
        Some((node.to_owned(), rest.strip_suffix(')')?.parse().ok()?))
    });
    let (name, route) = match routed {
        Some((node, route)) => (Some(node), Some(route)),
        None => (name, None),
    };
    End { address, name, key: None, user: None, tags: Vec::new(), route }
}
