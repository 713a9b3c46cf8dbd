//! Flows: created by an allowed first packet, consulted for replies.
//!
//! What works on flows is kept out of line: the packets of a busy direction never come here,
//! and each function has a BPF stack frame of its own.

use crate::layout::{Direction, FlowKey, FlowState, FlowValue};
use crate::parse::{Headers, Role, protocol};
use crate::{Environment, FlowTable, Reason};

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

/// A flow, or why there is none.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    /// The table that holds it.
    pub(crate) table: FlowTable,
    /// Its value, copied.
    pub(crate) flow: FlowValue,
    /// [`Reason::Reply`] if found, [`Reason::NoFlow`] or [`Reason::FlowExpired`].
    pub(crate) reason: Reason,
}

impl Found {
    pub(crate) const NOTHING: Self = Self {
        table: FlowTable::Unreplied,
        flow: FlowValue { created: 0, last_seen: 0, generation: 0, rule: 0, state: 0, reserved: [0; 7] },
        reason: Reason::NoFlow,
    };
}

/// Looks a flow up in both tables; expired ones are no flows.
#[inline(never)]
pub(crate) fn find(env: &impl Environment, key: &FlowKey, now: u64, found: &mut Found) {
    found.reason = Reason::NoFlow;
    if let Some(flow) = env.flow(FlowTable::Established, key) {
        if !is_expired(env, &flow, now) {
            *found = Found { table: FlowTable::Established, flow, reason: Reason::Reply };
            return;
        }
        found.reason = Reason::FlowExpired;
    }
    if let Some(flow) = env.flow(FlowTable::Unreplied, key) {
        if !is_expired(env, &flow, now) {
            *found = Found { table: FlowTable::Unreplied, flow, reason: Reason::Reply };
            return;
        }
        found.reason = Reason::FlowExpired;
    }
}

/// Whether the flow's last packet was too long ago.
#[inline(always)]
fn is_expired(env: &impl Environment, flow: &FlowValue, now: u64) -> bool {
    let timeout = u64::from(env.timeout(flow.state)) * 1_000_000_000;
    now.saturating_sub(flow.last_seen) > timeout
}

/// Records a packet that `rule` just admitted. Returns [`Reason::Rule`], or
/// [`Reason::FlowTableFull`] if its flow could not be stored: without it no reply would pass.
#[inline(never)]
pub(crate) fn record_admitted(
    env: &impl Environment,
    headers: &Headers,
    role: Role,
    direction: Direction,
    rule: u32,
) -> Reason {
    // An accept passes by a rule where rules admit both directions, but its flow must outlive
    // the rule that admits replies.
    let key = if role == Role::Accept {
        reply_key(env, headers, direction)
    } else {
        own_key(env, headers, direction)
    };
    let now = env.flow_time();
    let mut found = Found::NOTHING;
    find(env, &key, now, &mut found);
    let exists = found.reason == Reason::Reply;
    let next = match role {
        Role::Open | Role::Datagram if !exists => FlowValue {
            created: now,
            last_seen: now,
            generation: env.generation(),
            rule,
            state: first_state(key.protocol) as u8,
            reserved: [0; 7],
        },
        Role::Accept if exists && found.table == FlowTable::Unreplied => {
            return establish(env, &key, &found, found.flow.rule, now);
        }
        Role::End if exists && found.table == FlowTable::Established => {
            FlowValue { last_seen: now, state: closing_state(key.protocol) as u8, ..found.flow }
        }
        _ => {
            if exists {
                touch(env, &found, &key, now);
            }
            return Reason::Rule;
        }
    };
    match env.put_flow(found.table, &key, &next) {
        Ok(()) => Reason::Rule,
        Err(reason) => reason,
    }
}

/// Records a packet that passes as a reply of a flow, which `rule` of this generation allows.
/// Returns a passing reason, or [`Reason::FlowTableFull`].
#[inline(never)]
pub(crate) fn record_reply(
    env: &impl Environment,
    key: &FlowKey,
    found: &Found,
    role: Role,
    rule: u32,
    now: u64,
) -> Reason {
    // An older program, still on another hook during a swap, judges and does not write.
    if found.flow.generation > env.generation() {
        return Reason::Reply;
    }
    if found.table == FlowTable::Unreplied {
        if role == Role::Accept || !has_states(key.protocol) {
            return establish(env, key, found, rule, now);
        }
        touch(env, found, key, now);
        return Reason::Reply;
    }
    let closing = closing_state(key.protocol) as u8;
    let state = if role == Role::End { closing } else { replied_state(key.protocol) as u8 };
    if found.flow.state == state && found.flow.generation == env.generation() {
        touch(env, found, key, now);
        return Reason::Reply;
    }
    let next = FlowValue { last_seen: now, generation: env.generation(), rule, state, ..found.flow };
    match env.put_flow(FlowTable::Established, key, &next) {
        Ok(()) => Reason::Reply,
        Err(reason) => reason,
    }
}

/// Moves a flow to the established table.
#[inline(never)]
fn establish(env: &impl Environment, key: &FlowKey, found: &Found, rule: u32, now: u64) -> Reason {
    let established = FlowValue {
        last_seen: now,
        generation: env.generation(),
        rule,
        state: replied_state(key.protocol) as u8,
        ..found.flow
    };
    if let Err(reason) = env.put_flow(FlowTable::Established, key, &established) {
        return reason;
    }
    env.remove_flow(FlowTable::Unreplied, key);
    Reason::Reply
}

#[inline(always)]
fn touch(env: &impl Environment, found: &Found, key: &FlowKey, now: u64) {
    if now.saturating_sub(found.flow.last_seen) >= TOUCH_INTERVAL {
        env.touch_flow(found.table, key, now);
    }
}

#[inline(always)]
const fn is_icmp(protocol: u8) -> bool {
    protocol == protocol::ICMP || protocol == protocol::ICMPV6
}

#[inline(always)]
const fn has_states(protocol: u8) -> bool {
    protocol == protocol::TCP || protocol == protocol::SCTP
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
