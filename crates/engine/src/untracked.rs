//! TCP segments that could be replies and miss their flow: the table began anew, or the flow was
//! silent for longer than its time. A conversation that this host's sockets still hold goes on, and a
//! reset reaches whoever waits in vain; nothing else passes. Who sends to a conversation that this host
//! may have begun, and does not know any more, is told so.

use bulkhead_abi::{
    Direction, FLOW_ESTABLISHED, FLOW_FIN_INITIATOR, FLOW_FIN_RESPONDER, FLOW_TLS, FlowState, FlowValue,
    recall,
};

use crate::flow::{FINISHED, fin, is_finished, own_key, reply_key, within_new_flows};
use crate::metadata::Found;
use crate::parse::{Headers, Role, protocol, tcp};
use crate::reply::still_allowed;
use crate::socket::{CONNECTION, End, GOT_FIN, SENT_FIN, SocketState, begun};
use crate::{Calls, Environment, Metadata, Outcome, Reason};

/// Decides on a packet that [`crate::reply`] did not let pass, if it is a TCP segment without SYN whose
/// flow is missing, and the policy admits what it would be a reply to. The outcome in the metadata stays
/// what it was, unless there is more to say.
///
/// A reset passes, and leaves no trace. What belongs to a connection of this host's sockets is tracked
/// anew, unless its sender began that connection: then today's rules for his side have the say. What
/// belongs to none is dropped, and may be answered, see [`crate::forgotten`].
#[inline(always)]
pub fn untracked(env: &impl Calls, meta: &mut Metadata, direction: Direction) {
    let Metadata { headers, found, sides, outcome, .. } = meta;
    let is_missing = matches!(outcome.reason, Reason::NoFlow | Reason::FlowExpired);
    let is_segment = headers.protocol == protocol::TCP && matches!(headers.role, Role::Continue | Role::End);
    if !is_missing || !is_segment {
        return;
    }
    let Ok(judgement) = still_allowed(env, &found.key, direction.opposite(), *sides) else {
        return;
    };
    (found.rule, found.flags) = (judgement.rule, judgement.flags);
    if headers.detail & tcp::RST != 0 {
        // This host's own are not bounded, as its new flows are not.
        let within = direction == Direction::Egress || within_new_flows(env, &headers.source);
        let reason = if within { Reason::Reset } else { Reason::InitiatorRate };
        *outcome = Outcome { reason, rule: recall(&found.rule) };
        return;
    }
    // Flows that were recorded both ways, since it was not known who began, are of no generation.
    let is_known = found.reason == Reason::FlowExpired && found.flow.generation != 0;
    if !is_known && began_here(env, found, headers, direction) {
        return;
    }
    let state = socket(env, headers, direction);
    let is_open = if state == SocketState::NONE {
        headers.role == Role::Continue && is_taken_up(env, headers, direction)
    } else {
        state.is_in(CONNECTION) && (is_known || !began_by_port(env, headers, direction))
    };
    if is_open {
        let reason = track(env, found, headers, direction, is_known, state);
        *outcome = Outcome { reason, rule: recall(&found.rule) };
    } else if direction == Direction::Ingress && sides.quarantined == 0 && !is_begun(state) {
        env.forgotten(headers);
    }
}

/// Whether there is a socket of a segment's own ends, and not none, or one that listens. A port that is open
/// is as one that is closed, so that an answer tells nothing of it.
const fn is_begun(state: SocketState) -> bool {
    !matches!(state, SocketState::NONE | SocketState::LISTEN)
}

/// Whether the segment's own sender began what it belongs to, as far as its flow is there, over or not.
#[inline(always)]
fn began_here(env: &impl Environment, found: &mut Found, headers: &Headers, direction: Direction) -> bool {
    found.key.set(own_key(env, headers, direction));
    let is_there = env.flow(&found.key, &mut found.flow, |_| None);
    found.key.set(reply_key(env, headers, direction));
    is_there && found.flow.generation != 0
}

/// This host's end of a segment, and the other one.
#[inline(always)]
pub(crate) fn ends(headers: &Headers, direction: Direction) -> (End<'_>, End<'_>) {
    let source = End(&headers.source, headers.source_port);
    let destination = End(&headers.destination, headers.destination_port);
    match direction {
        Direction::Ingress => (destination, source),
        Direction::Egress => (source, destination),
    }
}

#[inline(always)]
fn socket(env: &impl Environment, headers: &Headers, direction: Direction) -> SocketState {
    let (local, remote) = ends(headers, direction);
    env.socket(headers.version, local, remote)
}

/// Whether the segment's own sender began its connection, as far as its port here tells.
#[inline(always)]
fn began_by_port(env: &impl Environment, headers: &Headers, direction: Direction) -> bool {
    let (local, remote) = ends(headers, direction);
    // No connection has this port, so that only a listener is found.
    let is_listened_on = env.socket(headers.version, local, End(remote.0, 0)) == SocketState::LISTEN;
    begun(is_listened_on, local.1, env.outward_ports()) == Some(direction)
}

/// Whether what is forwarded, for which there is no socket here, is taken for an open connection: for
/// a while after the first attach, and only behind this node, never at its own addresses.
#[inline(always)]
pub(crate) fn is_taken_up(env: &impl Calls, headers: &Headers, direction: Direction) -> bool {
    let until = u64::from(env.forwarded_until()) * 1_000_000_000;
    if until == 0 || env.flow_time() >= until {
        return false;
    }
    let (End(local, _), _) = ends(headers, direction);
    env.leaf(headers.version, local).is_ok_and(|leaf| leaf.local() != 0 && !leaf.own())
}

/// Stores the flow that the segment is a reply of.
#[inline(always)]
fn track(
    env: &impl Environment,
    found: &mut Found,
    headers: &Headers,
    direction: Direction,
    is_known: bool,
    state: SocketState,
) -> Reason {
    // What comes in as a reply, this host began.
    let (here, there) = match direction {
        Direction::Ingress => (FLOW_FIN_INITIATOR, FLOW_FIN_RESPONDER),
        Direction::Egress => (FLOW_FIN_RESPONDER, FLOW_FIN_INITIATOR),
    };
    let mut flags = FLOW_ESTABLISHED | fin(headers, FLOW_FIN_RESPONDER);
    flags |= if state.is_in(SENT_FIN) { here } else { 0 };
    flags |= if state.is_in(GOT_FIN) { there } else { 0 };
    let ends = headers.role == Role::End || is_finished(flags & FINISHED);
    let state = if ends { FlowState::TcpClosing } else { FlowState::TcpEstablished };
    // How a flow began that is over was looked at while it was not.
    if !is_known {
        found.flow = FlowValue::NONE;
    }
    let flow = &mut found.flow;
    (flow.last_seen, flow.generation, flow.rule) = (env.flow_time(), env.generation(), recall(&found.rule));
    (flow.state, flow.flags) = (state as u8, flags | flow.flags & FLOW_TLS);
    found.reason = Reason::Reply;
    env.put_flow(&found.key, &found.flow).err().unwrap_or(Reason::Resumed)
}
