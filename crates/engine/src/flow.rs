//! Flows: created by an allowed first packet, consulted for replies.
//!
//! What works on flows is kept out of line: the packets of a busy direction never come here,
//! and each function has a BPF stack frame of its own.

use bulkhead_abi::{
    Address, Direction, FLOW_AUDIT, FLOW_ESTABLISHED, FLOW_FIN_INITIATOR, FLOW_FIN_RESPONDER, FlowKey,
    FlowState, FlowValue, NO_RULE,
};

use crate::limits::{Counted, take_limit};
use crate::metadata::Found;
use crate::parse::{Headers, Role, protocol, tcp};
use crate::rate::take;
use crate::{Environment, Metadata, Outcome, Reason};

/// A flow's time is written at most once in this many ns: time-outs are in seconds, and a
/// write dirties a cache line that other CPUs read.
const TOUCH_INTERVAL: u64 = 1_000_000_000;

/// The key under which the packet's own sender would have started the flow.
#[inline(always)]
pub(crate) fn own_key(env: &impl Environment, headers: &Headers, direction: Direction) -> FlowKey {
    FlowKey {
        initiator: headers.source,
        responder: headers.destination,
        initiator_port: headers.source_port,
        responder_port: headers.destination_port,
        zone: env.zone(),
        protocol: headers.protocol,
        direction: direction.index() as u8,
    }
}

/// The key of the flow that the packet would be a reply of.
#[inline(always)]
pub(crate) fn reply_key(env: &impl Environment, headers: &Headers, direction: Direction) -> FlowKey {
    // The identifier of an echo is the same both ways; it is kept as the initiator's port.
    let echo = is_icmp(headers.protocol);
    FlowKey {
        initiator: headers.destination,
        responder: headers.source,
        initiator_port: if echo { headers.source_port } else { headers.destination_port },
        responder_port: if echo { 0 } else { headers.source_port },
        zone: env.zone(),
        protocol: headers.protocol,
        direction: direction.opposite().index() as u8,
    }
}

/// [`look_up`] out of line, for what is rare and is no packet of the flow.
#[inline(never)]
pub(crate) fn find(env: &impl Environment, now: u64, found: &mut Found) {
    look_up(env, now, false, found);
}

/// Looks a flow up; an expired one is no flow. One of this generation or an
/// older one was then last seen `now`, if `seen`: the same look-up writes the time.
#[inline(always)]
pub(crate) fn look_up(env: &impl Environment, now: u64, seen: bool, found: &mut Found) {
    let touch = |flow: &FlowValue| {
        let due = now.saturating_sub(flow.last_seen) >= TOUCH_INTERVAL;
        let ours = flow.generation <= env.generation();
        (seen && due && ours && !is_expired(env, flow, now)).then_some(now)
    };
    found.reason = match env.flow(&found.key, &mut found.flow, touch) {
        false => Reason::NoFlow,
        true if is_expired(env, &found.flow, now) => Reason::FlowExpired,
        true => Reason::Reply,
    };
}

/// Whether the flow's last packet was too long ago.
#[inline(always)]
fn is_expired(env: &impl Environment, flow: &FlowValue, now: u64) -> bool {
    let timeout = u64::from(env.timeout(flow.state)) * 1_000_000_000;
    now.saturating_sub(flow.last_seen) > timeout
}

/// Records a packet that `rule` just admitted, or that audit mode lets pass ([`NO_RULE`]). The
/// outcome, left in the metadata, is [`Reason::Rule`]; or [`Reason::FlowTableFull`] if its flow could
/// not be stored, without which no reply would pass; or the rate that lets no flow begin now.
#[inline(always)]
pub fn admit(env: &impl Environment, meta: &mut Metadata, direction: Direction, (rule, limit): (u32, u16)) {
    let Metadata { headers, found, sides, outcome, .. } = meta;
    let reason = record(env, headers, found, direction, (rule, limit));
    let is_first = matches!(headers.role, Role::Open | Role::Datagram) && !found.is_some();
    if env.tells_of_flows() && is_first && reason == Reason::Rule {
        sides.begun = 1;
    }
    *outcome = Outcome { reason, rule };
}

#[inline(always)]
fn record(
    env: &impl Environment,
    headers: &Headers,
    found: &mut Found,
    direction: Direction,
    (rule, limit): (u32, u16),
) -> Reason {
    let role = headers.role;
    // An accept passes by a rule where rules admit both directions, but its flow must outlive
    // the rule that admits replies.
    found.key.set(if role == Role::Accept {
        reply_key(env, headers, direction)
    } else {
        own_key(env, headers, direction)
    });
    let now = env.flow_time();
    look_up(env, now, true, found);
    let exists = found.is_some();
    // An older program, still on another hook during a swap, judges and does not write.
    if exists && found.flow.generation > env.generation() {
        return Reason::Rule;
    }
    let is_established = exists && found.is_established();
    let flow = &mut found.flow;
    match role {
        Role::Open | Role::Datagram if !exists => {
            let reason = may_begin(env, &found.key, rule, limit);
            if reason != Reason::Rule {
                return reason;
            }
            *flow = first(env, found.key.protocol, rule);
        }
        Role::Accept if exists && !is_established => {
            flow.generation = env.generation();
            flow.state = replied_state(found.key.protocol) as u8;
            flow.flags |= FLOW_ESTABLISHED;
        }
        Role::End if exists => {
            flow.state = closing_state(found.key.protocol) as u8;
            flow.flags |= fin(headers, FLOW_FIN_INITIATOR);
        }
        // The initiator's port is used again.
        Role::Open if is_established && flow.flags & FINISHED != 0 => flow.flags &= !FINISHED,
        // A rule admits now what audit mode once let pass.
        Role::Open | Role::Datagram if rule != NO_RULE && flow.flags & FLOW_AUDIT != 0 => {
            flow.generation = env.generation();
            flow.rule = rule;
            flow.flags &= !FLOW_AUDIT;
        }
        _ => return Reason::Rule,
    }
    flow.last_seen = now;
    match env.put_flow(&found.key, flow) {
        Ok(()) => Reason::Rule,
        Err(reason) => reason,
    }
}

/// Whether the rates of the rule and of who begins it let a flow begin. What others send here
/// is bounded by sender, so that none can push the rest out of the tables; this host is not.
#[inline(always)]
fn may_begin(env: &impl Environment, key: &FlowKey, rule: u32, limit: u16) -> Reason {
    if rule == NO_RULE {
        return Reason::Rule;
    }
    if key.direction == Direction::Ingress.index() as u8 && !within_new_flows(env, &key.initiator) {
        return Reason::InitiatorRate;
    }
    if env.has_limits() && !take_limit(env, limit, Counted::NewFlows, 1) {
        return Reason::NewFlowRate;
    }
    Reason::Rule
}

/// Takes one of the flows that an address may begin; true where any number is allowed.
#[inline(always)]
pub(crate) fn within_new_flows(env: &impl Environment, address: &Address) -> bool {
    let rate = env.new_flows();
    rate.interval == 0
        || env.initiator_state(address).is_some_and(|state| take(&state, rate, env.boot_time(), 1))
}

/// A flow that its first packet just started.
#[inline(always)]
fn first(env: &impl Environment, protocol: u8, rule: u32) -> FlowValue {
    FlowValue {
        generation: env.generation(),
        rule,
        state: first_state(protocol) as u8,
        flags: if rule == NO_RULE { FLOW_AUDIT } else { 0 },
        ..FlowValue::NONE
    }
}

/// Records a packet that passes as a reply of a flow, which `rule` of this generation allows.
/// Returns a passing reason, or [`Reason::FlowTableFull`]. In line is what the replies of a
/// conversation that goes on take: nothing changes but the time, which is written already.
#[inline(always)]
pub(crate) fn record_reply(
    env: &impl Environment,
    found: &mut Found,
    headers: &Headers,
    rule: u32,
    now: u64,
) -> Reason {
    let flow = &found.flow;
    let goes_on = found.is_established()
        && flow.generation == env.generation()
        && flow.state == replied_state(found.key.protocol) as u8
        && flow.flags & FINISHED == 0
        && matches!(headers.role, Role::Continue | Role::Datagram);
    if goes_on { Reason::Reply } else { record_change(env, found, headers, rule, now) }
}

#[inline(always)]
fn record_change(
    env: &impl Environment,
    found: &mut Found,
    headers: &Headers,
    rule: u32,
    now: u64,
) -> Reason {
    let role = headers.role;
    // As above: an older program does not write.
    if found.flow.generation > env.generation() {
        return Reason::Reply;
    }
    let (protocol, flow) = (found.key.protocol, &mut found.flow);
    let before = (flow.state, flow.flags, flow.generation);
    // One RST or FIN, which may be forged, is taken back by the next segment. After a FIN from
    // both sides what follows is the last acknowledgement: the flow ends.
    flow.flags |= fin(headers, FLOW_FIN_RESPONDER);
    let ends = role == Role::End || is_finished(flow.flags);
    // A rule admits now what audit mode once let pass.
    if rule != NO_RULE {
        flow.flags &= !FLOW_AUDIT;
    }
    // An accept alone, which a flood of openings brings about, completes no conversation: it
    // gets its long time, and may still be pushed out. Nor does an echo.
    if matches!(role, Role::Continue | Role::Datagram) && !ends {
        flow.flags |= FLOW_ESTABLISHED;
    }
    flow.state = if ends { closing_state(protocol) } else { replied_state(protocol) } as u8;
    flow.generation = env.generation();
    if (flow.state, flow.flags, flow.generation) == before {
        return Reason::Reply;
    }
    (flow.rule, flow.last_seen) = (rule, now);
    match env.put_flow(&found.key, flow) {
        Ok(()) => Reason::Reply,
        Err(reason) => reason,
    }
}

#[inline(always)]
const fn is_icmp(protocol: u8) -> bool {
    protocol == protocol::ICMP || protocol == protocol::ICMPV6
}

pub(crate) const FINISHED: u8 = FLOW_FIN_INITIATOR | FLOW_FIN_RESPONDER;

/// Whether both sides sent a FIN.
#[inline(always)]
pub(crate) const fn is_finished(flags: u8) -> bool {
    flags & FINISHED == FINISHED
}

/// The flag of whoever sent the segment, if it is a FIN.
#[inline(always)]
pub(crate) fn fin(headers: &Headers, flag: u8) -> u8 {
    if headers.protocol == protocol::TCP && headers.detail & tcp::FIN != 0 { flag } else { 0 }
}

/// The state of a flow that its first packet just started.
#[inline(always)]
const fn first_state(protocol: u8) -> FlowState {
    match protocol {
        protocol::TCP => FlowState::TcpSyn,
        protocol::SCTP => FlowState::SctpInit,
        protocol::ICMP | protocol::ICMPV6 => FlowState::Echo,
        _ => FlowState::UdpUnreplied,
    }
}

/// The state of a flow once its responder has answered.
#[inline(always)]
const fn replied_state(protocol: u8) -> FlowState {
    match protocol {
        protocol::TCP => FlowState::TcpEstablished,
        protocol::SCTP => FlowState::SctpEstablished,
        protocol::ICMP | protocol::ICMPV6 => FlowState::Echo,
        _ => FlowState::UdpReplied,
    }
}

#[inline(always)]
const fn closing_state(protocol: u8) -> FlowState {
    if protocol == protocol::SCTP { FlowState::SctpClosing } else { FlowState::TcpClosing }
}
