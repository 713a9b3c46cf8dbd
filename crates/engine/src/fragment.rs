//! Fragments: the first is judged and remembered, the others pass strictly in order.

use bulkhead_abi::{Direction, FRAGMENT_TIMEOUT, FragmentKey, FragmentValue, NO_RULE};

use crate::case::{Case, Outcome, Sides};
use crate::limits::{Counted, take_limit};
use crate::parse::Headers;
use crate::{Action, Calls, Environment, Reason};

#[inline(always)]
fn key_of(env: &impl Environment, headers: &Headers, direction: Direction) -> FragmentKey {
    FragmentKey {
        source: headers.source,
        destination: headers.destination,
        id: headers.fragment_id,
        zone: env.zone(),
        protocol: if headers.version == 4 { headers.protocol } else { 0 },
        direction: direction.index() as u8,
    }
}

/// Remembers a first fragment that passes, so that the datagram's others may follow.
#[inline(never)]
pub(crate) fn remember_first(env: &impl Environment, case: &mut Case, direction: Direction) {
    let Case { headers, outcome, .. } = case;
    let (judged, port) = match outcome.reason {
        Reason::Rule => (direction, headers.destination_port),
        Reason::Reply => (direction.opposite(), headers.source_port),
        // No other packet that passes may come in fragments: the rest of it finds nothing.
        _ => return,
    };
    let value = FragmentValue {
        last_seen: env.flow_time(),
        generation: env.generation(),
        rule: outcome.rule,
        next: headers.fragment_end,
        port,
        protocol: headers.protocol,
        judged: judged.index() as u8,
    };
    if env.put_fragment(&key_of(env, headers, direction), &value).is_err() {
        *outcome = Outcome { reason: Reason::FragmentTableFull, rule: NO_RULE };
    }
}

/// Decides on a fragment behind the first.
#[inline(never)]
pub(crate) fn decide_later(env: &impl Calls, case: &mut Case, direction: Direction) {
    // Of fragments no exemption is remembered.
    if env.has_exemptions() && case.sides.quarantined != 0 {
        case.outcome = Outcome { reason: Reason::Quarantined, rule: NO_RULE };
        return;
    }
    let Case { headers, outcome, sides, .. } = case;
    let key = key_of(env, headers, direction);
    let mut value = FragmentValue {
        last_seen: 0,
        generation: 0,
        rule: NO_RULE,
        next: 0,
        port: 0,
        protocol: 0,
        judged: 0,
    };
    *outcome = Outcome { reason: Reason::FragmentOrphan, rule: NO_RULE };
    if !env.fragment(&key, &mut value) {
        return;
    }
    let now = env.flow_time();
    if now.saturating_sub(value.last_seen) > FRAGMENT_TIMEOUT * 1_000_000_000 {
        return;
    }
    outcome.reason = continued(env, headers, &mut value, (*sides, direction));
    if outcome.reason.action() == Action::Drop {
        return;
    }
    outcome.rule = value.rule;
    if headers.more_fragments == 0 {
        env.remove_fragment(&key);
        return;
    }
    value.last_seen = now;
    value.next = headers.fragment_end;
    if env.put_fragment(&key, &value).is_err() {
        *outcome = Outcome { reason: Reason::FragmentTableFull, rule: NO_RULE };
    }
}

/// Whether the fragment is the one that may pass next, and today's policy still admits the datagram.
#[inline(always)]
fn continued(
    env: &impl Calls,
    headers: &Headers,
    value: &mut FragmentValue,
    (sides, direction): (Sides, Direction),
) -> Reason {
    if headers.fragment_offset < value.next {
        return Reason::FragmentOverlap;
    }
    if headers.fragment_offset > value.next {
        return Reason::FragmentOrder;
    }
    let judged = if value.judged == 0 { Direction::Ingress } else { Direction::Egress };
    let judgement = env.judge(judged, [sides.local, sides.remote], value.protocol, value.port);
    if judgement.reason != Reason::Rule {
        return Reason::FlowRevoked;
    }
    // A merged packet is no fragment: it is one unit.
    if env.has_limits()
        && judged_here(value, direction)
        && !take_limit(env, judgement.limit, Counted::Packets, 1)
    {
        return Reason::PacketRate;
    }
    value.generation = env.generation();
    value.rule = judgement.rule;
    Reason::Fragment
}

/// Whether the datagram goes the way that its rule admits: of a reply, no rate is taken.
#[inline(always)]
const fn judged_here(value: &FragmentValue, direction: Direction) -> bool {
    value.judged as u32 == direction.index()
}
