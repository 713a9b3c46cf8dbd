//! The decision: malformed > quarantine > local check > rules > flow.

use crate::flow::{self, find, record_admitted, record_reply, reply_key};
use crate::layout::{Direction, FlowKey, Leaf, NO_RULE};
use crate::parse::{self, Carried, Headers, Role, protocol};
use crate::tables::{Judgement, judge, leaf_of};
use crate::{Environment, FlowTable, Packet, Reason};

/// The verdict on one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why; it implies the [`crate::Action`].
    pub reason: Reason,
    /// The rule that decided, or [`NO_RULE`]. Of a reply, the rule that admitted its flow.
    pub rule: u32,
}

impl Outcome {
    const fn of(reason: Reason) -> Self {
        Self { reason, rule: NO_RULE }
    }
}

/// The classes of a packet's two ends, seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// This node's end: 1 and up.
    pub local: u32,
    /// The other end: 0 is 'unknown'.
    pub remote: u32,
}

/// Which end is this node's: the destination of what comes in, the source of what goes out.
/// The other end must not be the node's own.
///
/// # Errors
/// [`Reason::NotLocal`].
#[inline(always)]
pub fn local_check(direction: Direction, source: Leaf, destination: Leaf) -> Result<Sides, Reason> {
    let (near, far) = match direction {
        Direction::Ingress => (destination, source),
        Direction::Egress => (source, destination),
    };
    if near.local() == 0 || far.own() {
        return Err(Reason::NotLocal);
    }
    Ok(Sides { local: near.local(), remote: far.remote() })
}

/// Decides on a packet and records what it does to its flow. `headers` is filled in as far as
/// the packet could be parsed.
#[inline(always)]
pub fn decide(
    env: &impl Environment,
    packet: &Packet,
    direction: Direction,
    headers: &mut Headers,
) -> Outcome {
    let role = match parse::parse(packet, env.ethernet(), headers) {
        Ok(Carried::Ip(role)) => role,
        Ok(Carried::Arp) => return Outcome::of(Reason::Arp),
        Err(reason) => return Outcome::of(reason),
    };
    if role == Role::NeighbourDiscovery && env.ethernet() {
        return Outcome::of(Reason::NeighbourDiscovery);
    }
    match ends(env, direction, headers) {
        Ok(sides) => decide_between(env, packet, direction, headers, role, sides),
        Err(reason) => Outcome::of(reason),
    }
}

#[inline(always)]
fn ends(env: &impl Environment, direction: Direction, headers: &Headers) -> Result<Sides, Reason> {
    let source = leaf_of(env, headers.version, &headers.source)?;
    let destination = leaf_of(env, headers.version, &headers.destination)?;
    if source.quarantined() || destination.quarantined() {
        return Err(Reason::Quarantined);
    }
    local_check(direction, source, destination)
}

#[inline(always)]
fn decide_between(
    env: &impl Environment,
    packet: &Packet,
    direction: Direction,
    headers: &Headers,
    role: Role,
    sides: Sides,
) -> Outcome {
    match role {
        Role::Error => return Outcome::of(about_flow(env, packet, direction, headers)),
        Role::OtherIcmp | Role::NeighbourDiscovery => return Outcome::of(Reason::IcmpType),
        Role::Open | Role::Datagram | Role::Accept | Role::Continue | Role::EchoReply | Role::End => {}
    }
    let Sides { local, remote } = sides;
    let judgement = judge(env, direction, local, remote, headers.protocol, headers.destination_port);
    if judgement.reason == Reason::Rule && role != Role::EchoReply {
        return match record_admitted(env, headers, role, direction, judgement.rule) {
            Ok(()) => Outcome { reason: Reason::Rule, rule: judgement.rule },
            Err(reason) => Outcome::of(reason),
        };
    }
    if judgement.opposite && role != Role::Open {
        match reply(env, direction, headers, role, sides) {
            Ok(rule) => return Outcome { reason: Reason::Reply, rule },
            // Without a flow the tables' own reason says more.
            Err(Reason::NoFlow) => {}
            Err(reason) => return Outcome::of(reason),
        }
    }
    refused(judgement, role, remote)
}

/// The outcome for a packet that neither a rule nor a flow admits.
#[inline(always)]
fn refused(judgement: Judgement, role: Role, remote: u32) -> Outcome {
    let reason = match judgement.reason {
        // An echo reply in a direction that a rule admits.
        Reason::Rule => Reason::NoFlow,
        Reason::NoRule if remote == 0 => Reason::UnknownAddress,
        Reason::NoRule if judgement.opposite && role != Role::Open => Reason::NoFlow,
        other => other,
    };
    Outcome { reason, rule: if reason == Reason::DenyRule { judgement.rule } else { NO_RULE } }
}

/// Passes a packet as the reply side of a flow that today's policy still allows; returns the
/// rule that allows it.
#[inline(always)]
fn reply(
    env: &impl Environment,
    direction: Direction,
    headers: &Headers,
    role: Role,
    sides: Sides,
) -> Result<u32, Reason> {
    let key = reply_key(env, headers, direction);
    let now = env.flow_time();
    let (table, flow) = find(env, &key, now)?;
    let rule = still_allowed(env, &key, table, flow.generation, direction.opposite(), sides)?;
    record_reply(env, &key, table, &flow, role, rule, now)?;
    Ok(rule)
}

/// Judges a flow again by the tuple of its first packet. One that is no longer allowed is removed.
#[inline(always)]
fn still_allowed(
    env: &impl Environment,
    key: &FlowKey,
    table: FlowTable,
    generation: u32,
    started: Direction,
    sides: Sides,
) -> Result<u32, Reason> {
    let Sides { local, remote } = sides;
    let judgement = judge(env, started, local, remote, key.protocol, key.responder_port);
    if judgement.reason == Reason::Rule {
        return Ok(judgement.rule);
    }
    // An older program meeting a newer flow judges and does not write.
    if generation <= env.generation() {
        env.remove_flow(table, key);
    }
    Err(Reason::FlowRevoked)
}

/// An ICMP error passes if it quotes a packet of a tracked flow and goes to the end that sent
/// that packet, whichever router it comes from.
#[inline(always)]
fn about_flow(env: &impl Environment, packet: &Packet, direction: Direction, headers: &Headers) -> Reason {
    match quoted_flow(env, packet, direction, headers) {
        Ok(()) => Reason::IcmpError,
        Err(Reason::NoFlow | Reason::FlowExpired) => Reason::IcmpErrorUnrelated,
        Err(reason) => reason,
    }
}

#[inline(always)]
fn quoted_flow(
    env: &impl Environment,
    packet: &Packet,
    direction: Direction,
    headers: &Headers,
) -> Result<(), Reason> {
    let mut quote = Headers::default();
    let offset = headers.transport as usize + 8;
    if headers.version == 4 {
        parse::quoted4(packet, offset, &mut quote)?;
    } else {
        let end = (headers.transport + headers.transport_length) as usize;
        parse::quoted6(packet, offset, end, &mut quote)?;
    }
    let at = quote.transport as usize;
    match quote.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            let (source, destination) = parse::ports(packet, at).ok_or(Reason::IcmpErrorMalformed)?;
            quote.source_port = source;
            quote.destination_port = destination;
        }
        protocol::ICMP | protocol::ICMPV6 => {
            quote.source_port = packet.be16(at + 4).ok_or(Reason::IcmpErrorMalformed)?;
        }
        _ => {}
    }
    if quote.source != headers.destination {
        return Err(Reason::IcmpErrorUnrelated);
    }
    // The quoted packet went the other way: it started the flow, or was a reply in it.
    let sent = direction.opposite();
    let sides = ends(env, sent, &quote)?;
    let now = env.flow_time();
    let own = flow::own_key(env, &quote, sent);
    let (key, started, (table, flow)) = match find(env, &own, now) {
        Ok(found) => (own, sent, found),
        Err(_) => {
            let key = reply_key(env, &quote, sent);
            let found = find(env, &key, now)?;
            (key, direction, found)
        }
    };
    still_allowed(env, &key, table, flow.generation, started, sides).map(|_| ())
}
