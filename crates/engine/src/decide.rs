//! The decision: malformed > quarantine > local check > management exemptions and venues > rules > flow.

use bulkhead_abi::{CELL_TLS, CELL_TLS_REQUIRED, Direction, NO_RULE, recall};

use crate::errors::{about_flow, quotes_rejected};
use crate::fragment::{decide_later, remember_first};
use crate::limits::{Counted, take_limit};
use crate::membership::{is_membership, membership};
use crate::metadata::{Metadata, Outcome, Sides};
use crate::parse::{self, Headers, Role, protocol};
use crate::rejected::is_reset;
use crate::sides::{ends, is_kept_off, passes_apart, passes_as_to_ends};
use crate::tls::is_settled;
use crate::workload::{is_answer, may_send};
use crate::{Action, Calls, Judgement, Packet, Reason, link, report};

/// Parses a packet, decides on it, and records what it does to its flow.
#[inline(always)]
pub fn decide(env: &impl Calls, packet: &Packet, direction: Direction, meta: &mut Metadata) {
    parse::parse(packet, env.ethernet(), &mut meta.headers);
    decide_parsed(env, packet, direction, meta);
    if report::is_unread(env, meta) {
        report::judge_report(packet, meta, |meta| report::record(env, packet, &mut meta.headers));
    }
}

/// [`decide`] for a packet whose headers are parsed. Of a membership report the records are still to be
/// judged, see [`report`]; until they are, it is dropped.
#[inline(always)]
pub fn decide_parsed(env: &impl Calls, packet: &Packet, direction: Direction, meta: &mut Metadata) {
    let role = recall(&meta.headers.role);
    meta.outcome = match role {
        _ if env.is_loopback() && passes_apart(env, &meta.headers) => Outcome::of(Reason::Loopback),
        Role::Invalid => Outcome::of(fault_of(env, direction, &meta.headers)),
        Role::Arp => Outcome::of(Reason::Arp),
        Role::Link => Outcome::of(link::frame(env, packet, &meta.headers)),
        Role::NeighbourDiscovery if env.ethernet() => Outcome::of(Reason::NeighbourDiscovery),
        _ if is_membership(env, &meta.headers) => match passes_as_to_ends(env, direction, &meta.headers) {
            Ok(()) => return membership(env, packet, meta, direction),
            Err(reason) => Outcome::of(reason),
        },
        _ if env.link() != 0
            && env.ethernet()
            && link::passes(env, &meta.headers)
            && !is_kept_off(env, direction, &meta.headers) =>
        {
            let ends = passes_as_to_ends(env, direction, &meta.headers);
            Outcome::of(ends.map_or_else(|reason| reason, |()| Reason::Link))
        }
        _ => match ends(env, direction, &meta.headers)
            .and_then(|sides| sent(env, direction, &meta.headers, sides))
        {
            Ok(sides) => {
                meta.sides = sides;
                if role == Role::LaterFragment {
                    return decide_later(env, meta, direction);
                }
                decide_between(env, packet, direction, role, meta)
            }
            Err(reason) => Outcome::of(reason),
        },
    };
    link::name_unnamed(env, meta);
    if env.audit() && meta.outcome.reason.is_refusal() && matches!(role, Role::Open | Role::Datagram) {
        // It passes: its replies are no drops of their own. What is reported stays.
        let reported = meta.outcome;
        env.admit(meta, direction, NO_RULE, 0);
        meta.outcome = reported;
    }
    if recall(&meta.headers.first_fragment) != 0 && meta.outcome.reason.action() == Action::Pass {
        remember_first(env, meta, direction);
    }
}

/// The sides of a packet, if who sends it may send from its end.
#[inline(always)]
fn sent(env: &impl Calls, direction: Direction, headers: &Headers, sides: Sides) -> Result<Sides, Reason> {
    if direction == Direction::Egress && env.has_workloads() {
        may_send(env, sides.local, is_answer(recall(&headers.role)))?;
    }
    Ok(sides)
}

/// Why a packet is invalid. In audit mode such a packet passes, but not from or to whoever is
/// cut off, nor from who speaks as a workload: they would otherwise talk by packets that are
/// refused here and accepted by the stack.
#[inline(always)]
fn fault_of(env: &impl Calls, direction: Direction, headers: &Headers) -> Reason {
    if !env.audit() || headers.version == 0 {
        return headers.fault;
    }
    match passes_as_to_ends(env, direction, headers) {
        Err(reason) if reason.drops_in_audit() => reason,
        _ => headers.fault,
    }
}

#[inline(always)]
fn decide_between(
    env: &impl Calls,
    packet: &Packet,
    direction: Direction,
    role: Role,
    meta: &mut Metadata,
) -> Outcome {
    let quarantined = env.has_exemptions() && meta.sides.quarantined != 0;
    match role {
        _ if quarantined && !may_be_exempt(role) => return Outcome::of(Reason::Quarantined),
        Role::Error => {
            let reason = about_flow(env, packet, meta, direction);
            let is_unrelated = reason == Reason::IcmpErrorUnrelated && direction == Direction::Egress;
            let is_answer =
                env.has_rejects() && is_unrelated && quotes_rejected(env, packet, &meta.headers, &meta.quote);
            return Outcome::of(if is_answer { Reason::IcmpError } else { reason });
        }
        Role::OtherIcmp
        | Role::NeighbourDiscovery
        | Role::LaterFragment
        | Role::Invalid
        | Role::Arp
        | Role::Link => return Outcome::of(Reason::IcmpType),
        Role::Open | Role::Datagram | Role::Accept | Role::Continue | Role::EchoReply | Role::End => {}
    }
    let Headers { protocol, destination_port, .. } = &meta.headers;
    let (protocol, port) = (recall(protocol), recall(destination_port));
    let judgement = env.judge(direction, [meta.sides.local, meta.sides.remote], protocol, port);
    decide_judged(env, packet, direction, role, meta, judgement)
}

/// What a judgement makes of a packet that can have a flow.
#[inline(always)]
pub(crate) fn decide_judged(
    env: &impl Calls,
    packet: &Packet,
    direction: Direction,
    role: Role,
    meta: &mut Metadata,
    judgement: Judgement,
) -> Outcome {
    let quarantined = env.has_exemptions() && meta.sides.quarantined != 0;
    let remote = meta.sides.remote;
    let headers = &meta.headers;
    if judgement.reason == Reason::Rule && role != Role::EchoReply && (!quarantined || judgement.exempt()) {
        if env.has_limits()
            && judgement.limit != 0
            && !take_limit(env, judgement.limit, Counted::Packets, segments(packet, headers))
        {
            return Outcome { reason: Reason::PacketRate, rule: judgement.rule };
        }
        let by_rule = Outcome { reason: Reason::Rule, rule: judgement.rule };
        if role == Role::Continue && env.has_tls() && judgement.flags & CELL_TLS_REQUIRED != 0 {
            env.look_up_either(meta, direction);
            meta.outcome = by_rule;
            return begins(env, packet, meta, direction, judgement.flags);
        }
        if role == Role::Continue || judgement.one_way() {
            return by_rule;
        }
        env.admit(meta, direction, judgement.rule, judgement.limit);
        let outcome = recall(&meta.outcome);
        if env.has_tls() && judgement.flags & CELL_TLS != 0 && outcome.reason == Reason::Rule {
            if role == Role::End && !meta.found.is_some() {
                env.look_up_either(meta, direction);
            }
            return begins(env, packet, meta, direction, judgement.flags);
        }
        return outcome;
    }
    if (judgement.opposite || env.audit()) && role != Role::Open {
        env.reply(meta, direction);
        let mut outcome = recall(&meta.outcome);
        if outcome.reason.action() != Action::Pass {
            env.untracked(meta, direction);
            outcome = recall(&meta.outcome);
        }
        if outcome.reason.action() == Action::Pass {
            let flags = recall(&meta.found.flags);
            let is_flow = matches!(outcome.reason, Reason::Reply | Reason::Resumed);
            if env.has_tls() && is_flow && flags & CELL_TLS != 0 {
                outcome = begins(env, packet, meta, direction, flags);
            }
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
    if env.has_rejects()
        && role == Role::End
        && direction == Direction::Egress
        && is_reset(env, &meta.headers, meta.sides)
    {
        return Outcome::of(Reason::Reset);
    }
    if env.has_rejects() && judgement.rejects() {
        env.rejected(meta, direction);
    }
    refused(judgement, role, remote)
}

/// The outcome once it was looked at how the packet's flow begins, if anything of that is left to look at.
#[inline(always)]
fn begins(
    env: &impl Calls,
    packet: &Packet,
    meta: &mut Metadata,
    direction: Direction,
    flags: u8,
) -> Outcome {
    if !is_settled(meta, direction, flags) {
        env.begins(packet, meta, direction, flags);
    }
    recall(&meta.outcome)
}

/// The outcome for a packet that neither a rule nor a flow admits.
#[inline(always)]
fn refused(judgement: Judgement, role: Role, remote: u32) -> Outcome {
    match judgement.reason {
        // An echo reply in a direction that a rule admits.
        Reason::Rule => Outcome::of(Reason::NoFlow),
        Reason::NoRule if remote == 0 => Outcome::of(Reason::UnknownAddress),
        Reason::NoRule if judgement.opposite && role != Role::Open => Outcome::of(Reason::NoFlow),
        reason @ (Reason::DenyRule | Reason::VenueDefaultDeny) => Outcome { reason, rule: judgement.rule },
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
