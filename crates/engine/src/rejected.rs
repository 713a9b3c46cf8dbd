//! What the policy does not admit and says so (`onDeny`): whoever begins a conversation hears at once that it will
//! not be one. See docs/decisions/0055.

use bulkhead_abi::{Direction, Leaf, Rate};

use crate::flow::within_new_flows;
use crate::forgotten::{OWN_WORD, is_first};
use crate::metadata::{Metadata, Sides};
use crate::parse::{Headers, Role, protocol, tcp};
use crate::rate::take;
use crate::{Answer, Calls, Reason};

/// Asks for the answer to a packet that is dropped, whose cell says that who begins a conversation is told: if this one
/// begins one, and the end on this side is this host itself. The kernel lets nobody but a workload speak for a workload,
/// the agent included: those hear nothing.
#[inline(always)]
pub fn rejected(env: &impl Calls, meta: &Metadata, direction: Direction) {
    let Metadata { headers, sides, .. } = meta;
    let here = match direction {
        Direction::Ingress => &headers.destination,
        Direction::Egress => &headers.source,
    };
    let is_host = |leaf: Leaf| {
        leaf.own() && (!env.has_workloads() || env.workload(leaf.local()).is_some_and(|it| !it.is_some()))
    };
    if !env.audit()
        && begins_here(env, headers, *sides, direction)
        && env.leaf(headers.version, here).is_ok_and(is_host)
        && is_first(env, headers)
        && match direction {
            Direction::Ingress => within_new_flows(env, &headers.source),
            Direction::Egress => within_own(env),
        }
    {
        env.answer(headers, Answer::Rejected(direction));
    }
}

/// How many answers the sockets of this host get: 1,000 a second after a burst of 100. Who floods here must not use up
/// what others are answered by.
const OWN: Rate = Rate { interval: 1_000_000, tolerance: 99 * 1_000_000 };

#[inline(always)]
fn within_own(env: &impl Calls) -> bool {
    env.answer_state(OWN_WORD).is_some_and(|state| take(&state, OWN, env.flow_time(), 1))
}

/// Whether somebody who is known begins a conversation.
#[inline(always)]
fn begins_here(env: &impl Calls, headers: &Headers, sides: Sides, direction: Direction) -> bool {
    if sides.remote == 0 {
        return false;
    }
    match headers.protocol {
        protocol::TCP => headers.role == Role::Open,
        protocol::UDP if headers.role == Role::Datagram => {
            // A late reply of what is admitted begins nothing: nobody is told of it.
            let classes = [sides.local, sides.remote];
            let opposite = env.judge(direction.opposite(), classes, protocol::UDP, headers.source_port);
            opposite.reason != Reason::Rule
        }
        _ => false,
    }
}

/// A TCP header without options.
const BARE_RESET: u32 = 20;

/// Whether a segment that leaves is such an answer: a reset without options or a byte of data, of this host itself, to
/// somebody who may not begin the conversation that it would end, and is to be told so.
#[inline(always)]
pub(crate) fn is_reset(env: &impl Calls, headers: &Headers, sides: Sides) -> bool {
    headers.protocol == protocol::TCP
        && headers.detail & tcp::RST != 0
        && headers.transport_length == BARE_RESET
        && env.leaf(headers.version, &headers.source).is_ok_and(Leaf::own)
        && rejects(env, sides, protocol::TCP, headers.source_port)
}

/// Whether the policy does not admit what comes in from a known address to a port here, and says so.
#[inline(always)]
pub(crate) fn rejects(env: &impl Calls, sides: Sides, protocol: u8, port: u16) -> bool {
    let classes = [sides.local, sides.remote];
    sides.remote != 0 && env.judge(Direction::Ingress, classes, protocol, port).rejects()
}
