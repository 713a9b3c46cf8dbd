//! Flows: created by an allowed first packet, consulted for replies.

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

#[inline(always)]
const fn is_icmp(protocol: u8) -> bool {
    protocol == protocol::ICMP || protocol == protocol::ICMPV6
}

/// Whether the flow's last packet was too long ago.
#[inline(always)]
pub(crate) fn is_expired(env: &impl Environment, flow: &FlowValue, now: u64) -> bool {
    let timeout = u64::from(env.timeout(flow.state)) * 1_000_000_000;
    now.saturating_sub(flow.last_seen) > timeout
}

/// A flow and the table that holds it; expired ones are no flows.
#[inline(always)]
pub(crate) fn find(
    env: &impl Environment,
    key: &FlowKey,
    now: u64,
) -> Result<(FlowTable, FlowValue), Reason> {
    let mut reason = Reason::NoFlow;
    if let Some(flow) = env.flow(FlowTable::Established, key) {
        if !is_expired(env, &flow, now) {
            return Ok((FlowTable::Established, flow));
        }
        reason = Reason::FlowExpired;
    }
    if let Some(flow) = env.flow(FlowTable::Unreplied, key) {
        if !is_expired(env, &flow, now) {
            return Ok((FlowTable::Unreplied, flow));
        }
        reason = Reason::FlowExpired;
    }
    Err(reason)
}

#[inline(always)]
fn touch(env: &impl Environment, table: FlowTable, key: &FlowKey, flow: &FlowValue, now: u64) {
    if now.saturating_sub(flow.last_seen) >= TOUCH_INTERVAL {
        env.touch_flow(table, key, now);
    }
}

/// The state of a flow that its first packet just started.
#[inline(always)]
const fn first_state(protocol: u8) -> FlowState {
    match protocol {
        protocol::TCP => FlowState::TcpSyn,
        protocol::SCTP => FlowState::SctpInit,
        _ if is_icmp(protocol) => FlowState::Echo,
        _ => FlowState::UdpUnreplied,
    }
}

/// The state of a flow once its responder has answered.
#[inline(always)]
const fn replied_state(protocol: u8) -> FlowState {
    match protocol {
        protocol::TCP => FlowState::TcpEstablished,
        protocol::SCTP => FlowState::SctpEstablished,
        _ if is_icmp(protocol) => FlowState::Echo,
        _ => FlowState::UdpReplied,
    }
}

#[inline(always)]
const fn closing_state(protocol: u8) -> FlowState {
    if protocol::SCTP == protocol { FlowState::SctpClosing } else { FlowState::TcpClosing }
}

#[inline(always)]
const fn has_states(protocol: u8) -> bool {
    protocol == protocol::TCP || protocol == protocol::SCTP
}

/// Records a packet that `rule` just admitted.
///
/// # Errors
/// [`Reason::FlowTableFull`] if its flow could not be stored: without it no reply would pass.
#[inline(always)]
pub(crate) fn record_admitted(
    env: &impl Environment,
    headers: &Headers,
    role: Role,
    direction: Direction,
    rule: u32,
) -> Result<(), Reason> {
    match role {
        Role::Open | Role::Datagram => start(env, headers, direction, rule),
        Role::End => {
            let key = own_key(env, headers, direction);
            let now = env.flow_time();
            if let Ok((table, flow)) = find(env, &key, now) {
                set_state(env, table, &key, &flow, closing_state(headers.protocol), now)?;
            }
            Ok(())
        }
        // Rules admit both directions: the reply passes by a rule, but the flow must outlive
        // that rule.
        Role::Accept => {
            let key = reply_key(env, headers, direction);
            let now = env.flow_time();
            match env.flow(FlowTable::Unreplied, &key) {
                Some(flow) if !is_expired(env, &flow, now) => {
                    establish(env, FlowTable::Unreplied, &key, &flow, headers.protocol, now)
                }
                _ => Ok(()),
            }
        }
        // The busy direction of an established conversation needs no flow.
        _ => Ok(()),
    }
}

#[inline(always)]
fn start(env: &impl Environment, headers: &Headers, direction: Direction, rule: u32) -> Result<(), Reason> {
    let key = own_key(env, headers, direction);
    let now = env.flow_time();
    match find(env, &key, now) {
        Ok((table, flow)) => {
            touch(env, table, &key, &flow, now);
            Ok(())
        }
        Err(_) => {
            let flow = FlowValue {
                created: now,
                last_seen: now,
                generation: env.generation(),
                rule,
                state: first_state(headers.protocol) as u8,
                reserved: [0; 7],
            };
            env.put_flow(FlowTable::Unreplied, &key, &flow)
        }
    }
}

/// Records a packet that passes as a reply of `flow`, which `rule` of this generation allows.
///
/// # Errors
/// [`Reason::FlowTableFull`] if the flow could not be moved to the established table.
#[inline(always)]
pub(crate) fn record_reply(
    env: &impl Environment,
    key: &FlowKey,
    table: FlowTable,
    flow: &FlowValue,
    role: Role,
    rule: u32,
    now: u64,
) -> Result<(), Reason> {
    // An older program, still on another hook during a swap, judges and does not write.
    if flow.generation > env.generation() {
        return Ok(());
    }
    let mut flow = *flow;
    let stale = flow.generation != env.generation();
    flow.generation = env.generation();
    flow.rule = rule;
    let protocol = key.protocol;
    match (table, role) {
        (FlowTable::Unreplied, Role::Accept) => establish(env, table, key, &flow, protocol, now),
        (FlowTable::Unreplied, _) if !has_states(protocol) => {
            establish(env, table, key, &flow, protocol, now)
        }
        (FlowTable::Unreplied, _) => {
            touch(env, table, key, &flow, now);
            Ok(())
        }
        (FlowTable::Established, Role::End) => {
            set_state(env, table, key, &flow, closing_state(protocol), now)
        }
        (FlowTable::Established, _) if stale || flow.state == closing_state(protocol) as u8 => {
            set_state(env, table, key, &flow, replied_state(protocol), now)
        }
        (FlowTable::Established, _) => {
            touch(env, table, key, &flow, now);
            Ok(())
        }
    }
}

/// Moves a flow to the established table.
#[inline(always)]
fn establish(
    env: &impl Environment,
    from: FlowTable,
    key: &FlowKey,
    flow: &FlowValue,
    protocol: u8,
    now: u64,
) -> Result<(), Reason> {
    let established = FlowValue { last_seen: now, state: replied_state(protocol) as u8, ..*flow };
    env.put_flow(FlowTable::Established, key, &established)?;
    env.remove_flow(from, key);
    Ok(())
}

#[inline(always)]
fn set_state(
    env: &impl Environment,
    table: FlowTable,
    key: &FlowKey,
    flow: &FlowValue,
    state: FlowState,
    now: u64,
) -> Result<(), Reason> {
    if table == FlowTable::Unreplied {
        // It keeps its short time-out.
        return Ok(());
    }
    env.put_flow(table, key, &FlowValue { last_seen: now, state: state as u8, ..*flow })
}
