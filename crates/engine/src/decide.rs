//! The decision: malformed > quarantine > local check > rules > flow.

use crate::case::{Case, Outcome, Sides};
use crate::errors::about_flow;
use crate::flow::{Found, look_up, record_reply, reply_key};
use crate::fragment::{decide_later, remember_first};
use crate::membership::{is_membership, membership};
use crate::parse::{self, Headers, Role, protocol};
use crate::tables::{Counted, Judgement, take_limit};
use crate::{Action, Environment, Packet, Reason, link, report};
use bulkhead_abi::recall;
use bulkhead_abi::{Direction, FLOW_AUDIT, FlowKey, Leaf, NO_RULE};

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
    Ok(Sides { local: near.local(), remote: far.remote(), quarantined: 0, reserved: 0 })
}

/// Parses a packet, decides on it, and records what it does to its flow.
#[inline(always)]
pub fn decide(env: &impl Environment, packet: &Packet, direction: Direction, case: &mut Case) {
    parse::parse(packet, env.ethernet(), &mut case.headers);
    decide_parsed(env, packet, direction, case);
    if report::is_unread(env, case) {
        report::judge_report(packet, case, |case| report::record(env, packet, &mut case.headers));
    }
}

/// [`decide`] for a packet whose headers are parsed. Of a membership report the records are still to be
/// judged, see [`report`]; until they are, it is dropped.
#[inline(always)]
pub fn decide_parsed(env: &impl Environment, packet: &Packet, direction: Direction, case: &mut Case) {
    let role = recall(&case.headers.role);
    case.outcome = match role {
        Role::Invalid => Outcome::of(fault_of(env, &case.headers)),
        Role::Arp => Outcome::of(Reason::Arp),
        Role::Link => Outcome::of(link::frame(env, packet, &case.headers)),
        Role::NeighbourDiscovery if env.ethernet() => Outcome::of(Reason::NeighbourDiscovery),
        _ if is_membership(env, &case.headers) => match leaves(env, &case.headers) {
            Ok(_) => return membership(env, packet, case, direction),
            Err(reason) => Outcome::of(reason),
        },
        _ if env.link() != 0 && env.ethernet() && link::passes(env, &case.headers) => {
            Outcome::of(leaves(env, &case.headers).map_or_else(|reason| reason, |_| Reason::Link))
        }
        _ => match ends(env, direction, &case.headers) {
            Ok(sides) => {
                case.sides = sides;
                if role == Role::LaterFragment {
                    return decide_later(env, case, direction);
                }
                decide_between(env, packet, direction, role, case)
            }
            Err(reason) => Outcome::of(reason),
        },
    };
    link::name_unnamed(env, case);
    if env.audit() && is_policy(case.outcome.reason) && matches!(role, Role::Open | Role::Datagram) {
        // It passes: its replies are no drops of their own. What is reported stays.
        let reported = case.outcome;
        env.admit(case, direction, NO_RULE, 0);
        case.outcome = reported;
    }
    if recall(&case.headers.first_fragment) != 0 && case.outcome.reason.action() == Action::Pass {
        remember_first(env, case, direction);
    }
}

/// Whether a packet was well formed and only the policy speaks against it.
#[inline(always)]
const fn is_policy(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoRule
            | Reason::DenyRule
            | Reason::VenueGuard
            | Reason::UnknownAddress
            | Reason::NoFlow
            | Reason::FlowExpired
            | Reason::PacketRate
            | Reason::NewFlowRate
            | Reason::InitiatorRate
    )
}

/// Why a packet is invalid. In audit mode such a packet passes, but not from or to whoever is
/// cut off: a quarantined host would otherwise talk by packets that are refused here and
/// accepted by the stack.
#[inline(always)]
fn fault_of(env: &impl Environment, headers: &Headers) -> Reason {
    if env.audit() && headers.version != 0 && leaves(env, headers) == Err(Reason::Quarantined) {
        return Reason::Quarantined;
    }
    headers.fault
}

/// The classes of both ends. Where there are management exemptions, a quarantined end is marked
/// and not yet a reason to drop.
#[inline(always)]
pub(crate) fn ends(env: &impl Environment, direction: Direction, headers: &Headers) -> Result<Sides, Reason> {
    let (source, destination) = both_leaves(env, headers)?;
    let cut_off = source.quarantined() || destination.quarantined();
    if cut_off && !env.has_exemptions() {
        return Err(Reason::Quarantined);
    }
    match local_check(direction, source, destination) {
        Ok(sides) => Ok(Sides { quarantined: u32::from(cut_off), ..sides }),
        Err(_) if cut_off => Err(Reason::Quarantined),
        Err(reason) => Err(reason),
    }
}

/// The leaves of source and destination, neither of them quarantined.
#[inline(always)]
fn leaves(env: &impl Environment, headers: &Headers) -> Result<(Leaf, Leaf), Reason> {
    let (source, destination) = both_leaves(env, headers)?;
    if source.quarantined() || destination.quarantined() {
        return Err(Reason::Quarantined);
    }
    Ok((source, destination))
}

/// The leaves of source and destination.
#[inline(always)]
fn both_leaves(env: &impl Environment, headers: &Headers) -> Result<(Leaf, Leaf), Reason> {
    let version = recall(&headers.version);
    Ok((env.leaf(version, &headers.source)?, env.leaf(version, &headers.destination)?))
}

#[inline(always)]
fn decide_between(
    env: &impl Environment,
    packet: &Packet,
    direction: Direction,
    role: Role,
    case: &mut Case,
) -> Outcome {
    let quarantined = env.has_exemptions() && case.sides.quarantined != 0;
    match role {
        _ if quarantined && !may_be_exempt(role) => return Outcome::of(Reason::Quarantined),
        Role::Error => return Outcome::of(about_flow(env, packet, case, direction)),
        Role::OtherIcmp
        | Role::NeighbourDiscovery
        | Role::LaterFragment
        | Role::Invalid
        | Role::Arp
        | Role::Link => return Outcome::of(Reason::IcmpType),
        Role::Open | Role::Datagram | Role::Accept | Role::Continue | Role::EchoReply | Role::End => {}
    }
    let Headers { protocol, destination_port, .. } = &case.headers;
    let (protocol, port) = (recall(protocol), recall(destination_port));
    let judgement = env.judge(direction, [case.sides.local, case.sides.remote], protocol, port);
    decide_judged(env, packet, direction, role, case, judgement)
}

/// What a judgement makes of a packet that can have a flow.
#[inline(always)]
pub(crate) fn decide_judged(
    env: &impl Environment,
    packet: &Packet,
    direction: Direction,
    role: Role,
    case: &mut Case,
    judgement: Judgement,
) -> Outcome {
    let quarantined = env.has_exemptions() && case.sides.quarantined != 0;
    let remote = case.sides.remote;
    let headers = &case.headers;
    if judgement.reason == Reason::Rule && role != Role::EchoReply && (!quarantined || judgement.exempt()) {
        if env.has_limits()
            && judgement.limit != 0
            && !take_limit(env, judgement.limit, Counted::Packets, segments(packet, headers))
        {
            return Outcome { reason: Reason::PacketRate, rule: judgement.rule };
        }
        if role == Role::Continue || judgement.one_way() {
            return Outcome { reason: Reason::Rule, rule: judgement.rule };
        }
        env.admit(case, direction, judgement.rule, judgement.limit);
        return recall(&case.outcome);
    }
    if (judgement.opposite || env.audit()) && role != Role::Open {
        env.reply(case, direction);
        let mut outcome = recall(&case.outcome);
        if outcome.reason.action() == Action::Pass {
            return outcome;
        }
        env.untracked(case, direction);
        outcome = recall(&case.outcome);
        if outcome.reason.action() == Action::Pass {
            return outcome;
        }
        if quarantined {
            return Outcome::of(Reason::Quarantined);
        }
        // Without a flow the tables' own reason says more.
        if outcome.reason != Reason::NoFlow {
            return outcome;
        }
    }
    if quarantined {
        return Outcome::of(Reason::Quarantined);
    }
    refused(judgement, role, remote)
}

/// The outcome for a packet that neither a rule nor a flow admits.
#[inline(always)]
fn refused(judgement: Judgement, role: Role, remote: u32) -> Outcome {
    match judgement.reason {
        // An echo reply in a direction that a rule admits.
        Reason::Rule => Outcome::of(Reason::NoFlow),
        Reason::NoRule if remote == 0 => Outcome::of(Reason::UnknownAddress),
        Reason::NoRule if judgement.opposite && role != Role::Open => Outcome::of(Reason::NoFlow),
        reason @ (Reason::DenyRule | Reason::VenueGuard) => Outcome { reason, rule: judgement.rule },
        reason => Outcome::of(reason),
    }
}

/// Roles that a management exemption may let pass to or from who is quarantined.
#[inline(always)]
const fn may_be_exempt(role: Role) -> bool {
    matches!(role, Role::Open | Role::Datagram | Role::Accept | Role::Continue | Role::EchoReply | Role::End)
}

/// How many packets on the wire a packet is: a merged one as many as its segments.
#[inline(always)]
fn segments(packet: &Packet, headers: &Headers) -> u32 {
    let header = match headers.protocol {
        protocol::TCP => {
            let start = packet.header::<20>(headers.transport as usize);
            start.map_or(20, |start| u32::from(start.byte(12) >> 4) * 4)
        }
        protocol::UDP => 8,
        _ => 0,
    };
    packet.segments(headers.transport_length.saturating_sub(header))
}

/// Passes a packet as the reply side of a flow that today's policy still allows; the rule is
/// the one that allows it. The outcome is left in the case.
#[inline(always)]
pub fn reply(env: &impl Environment, case: &mut Case, direction: Direction) {
    let Case { headers, found, sides, outcome, .. } = case;
    *outcome = Outcome::of(Reason::NoFlow);
    let now = env.flow_time();
    found.key.set(reply_key(env, headers, direction));
    look_up(env, now, true, found);
    outcome.reason = found.reason;
    if !found.is_some() {
        return;
    }
    let flags = found.flow.flags;
    let allowed = still_allowed(env, &found.key, direction.opposite(), *sides);
    // What is cut off for now keeps its flow, for when it is released.
    if allowed.is_err() && env.has_exemptions() && sides.quarantined != 0 {
        outcome.reason = Reason::Quarantined;
        return;
    }
    if let Err(reason) = allowed
        && !env.audit()
    {
        remove_revoked(env, found);
        outcome.reason = reason;
        return;
    }
    // In audit mode what is revoked goes on, so that its flow is there when a policy that
    // admits it is enforced again.
    let rule = allowed.unwrap_or(found.flow.rule);
    if record_reply(env, found, headers, rule, now) == Reason::FlowTableFull {
        outcome.reason = Reason::FlowTableFull;
        return;
    }
    match allowed {
        Ok(rule) => *outcome = Outcome { reason: Reason::Reply, rule },
        Err(_) if flags & FLOW_AUDIT != 0 => outcome.reason = Reason::AuditReply,
        Err(reason) => outcome.reason = reason,
    }
}

/// Judges a flow again by the tuple of its first packet; returns the rule that allows it.
#[inline(always)]
pub(crate) fn still_allowed(
    env: &impl Environment,
    key: &FlowKey,
    started: Direction,
    sides: Sides,
) -> Result<u32, Reason> {
    let classes = [sides.local, sides.remote];
    let judgement = env.judge(started, classes, key.protocol, key.responder_port);
    let exempt = !env.has_exemptions() || sides.quarantined == 0 || judgement.exempt();
    if judgement.reason == Reason::Rule && exempt { Ok(judgement.rule) } else { Err(Reason::FlowRevoked) }
}

/// Removes a flow that is no longer allowed. An older program meeting a newer flow judges and
/// does not write.
#[inline(always)]
fn remove_revoked(env: &impl Environment, found: &Found) {
    if found.flow.generation <= env.generation() {
        env.remove_flow(&found.key);
    }
}
