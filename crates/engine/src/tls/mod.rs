//! Whether connections begin as TLS: the bytes that each end sends first are compared with the header of a TLS
//! record (RFC 8446 section 5.1) that holds a handshake, and of datagrams with DTLS and QUIC.
//!
//! TCP's stream is compared position by position, however it is cut into segments. Until the other end has
//! acknowledged the bytes that are compared, what is sent of them once more is compared once more: what an end has
//! received is what was compared, whatever else was sent and lost, or had a wrong checksum. See docs/decisions/0052.

mod datagram;
mod progress;
mod record;
mod stream;

use bulkhead_abi::{CELL_TLS_POSTGRES, CELL_TLS_REQUIRED, Direction, FLOW_TLS, FlowState, FlowValue};

use crate::flow::{find, look_up, own_key, reply_key};
use crate::metadata::{Found, Outcome};
use crate::parse::{Headers, Role, protocol};
use crate::socket::{CONNECTION, End};
use crate::{Environment, Metadata, Packet, Reason};
use progress::{Progress, State};

/// How a flow began, as its rule counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Its server began as TLS.
    Tls,
    /// An end began otherwise.
    Plaintext,
    /// It was not seen, or could not be read.
    Unverified,
}

impl Beginning {
    /// Its counter among those of a rule, [`bulkhead_abi::tls_index`].
    #[inline(always)]
    #[must_use]
    pub const fn counter(self) -> u32 {
        match self {
            Self::Tls => bulkhead_abi::TLS_BEGAN,
            Self::Plaintext => bulkhead_abi::TLS_PLAINTEXT,
            Self::Unverified => bulkhead_abi::TLS_UNVERIFIED,
        }
    }
}

/// What a packet that a rule or a flow admits is to be compared with.
#[derive(Clone, Copy)]
struct Terms {
    /// What begins otherwise is dropped.
    required: bool,
    /// PostgreSQL's SSLRequest may come first.
    postgres: bool,
    /// The packet goes the way of the flow's first one.
    is_client: bool,
}

/// What comes of a comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    /// It is of an end that did not begin as TLS.
    Plaintext,
    /// It comes too early, or cannot be read.
    Unseen,
}

/// How both ends of a flow began, and what a packet has changed of it.
struct Flow {
    /// Of who sends the packet.
    mine: Progress,
    /// Of who receives it.
    other: Progress,
    /// What is to be counted; a flow counts once as each.
    counted: Option<Beginning>,
}

/// Looks at how a packet's flow begins, whose cell has [`bulkhead_abi::CELL_TLS`] among `flags`, and which a rule or a
/// flow has just admitted: the outcome in the metadata is a passing one. It stays, or becomes a drop.
///
/// What a rule admits comes here after [`crate::admit`], with the flow that it has left in the metadata, but for
/// segments in the middle of a connection, whose flow nobody has looked up yet; what a flow admits after
/// [`crate::reply`] or [`crate::untracked`].
#[inline(always)]
pub fn begins(env: &impl Environment, packet: &Packet, meta: &mut Metadata, direction: Direction, flags: u8) {
    let Metadata { headers, found, outcome, .. } = meta;
    let rule = outcome.rule;
    if headers.protocol != protocol::TCP && headers.protocol != protocol::UDP {
        return;
    }
    let is_looked_up = headers.role != Role::Continue && (headers.role != Role::End || found.is_some());
    if outcome.reason == Reason::Rule && !is_looked_up {
        look_up_either(env, headers, found, direction);
    }
    let is_new = !found.is_some() && matches!(headers.role, Role::Open | Role::Datagram);
    let terms = Terms {
        required: flags & CELL_TLS_REQUIRED != 0,
        postgres: flags & CELL_TLS_POSTGRES != 0,
        is_client: found.key.direction == direction.index() as u8,
    };
    if !found.is_some() && !is_new {
        if terms.required && stream::payload(packet, headers) != 0 {
            missing(env, headers, found, direction, outcome);
        }
        return;
    }
    let mut flow = Flow::of(&found.flow, terms.is_client);
    let verdict = if headers.protocol == protocol::TCP {
        stream::compare(env, packet, headers, terms, (is_new, found.flow.state), &mut flow)
    } else {
        datagram::compare(env, packet, headers, terms, is_new, &mut flow)
    };
    if !store(env, found, terms.is_client, &flow) && terms.required {
        *outcome = Outcome { reason: Reason::FlowTableFull, rule };
        return;
    }
    if let Some(beginning) = flow.counted {
        env.count_beginning(rule, beginning);
    }
    match verdict {
        Verdict::Plaintext if terms.required => *outcome = Outcome { reason: Reason::NotTls, rule },
        Verdict::Unseen if terms.required => *outcome = Outcome { reason: Reason::TlsUnseen, rule },
        _ => {}
    }
}

/// The flow that a segment goes the way of, or else is a reply of: where rules admit both directions it may be either.
#[inline(always)]
fn look_up_either(env: &impl Environment, headers: &Headers, found: &mut Found, direction: Direction) {
    let now = env.flow_time();
    found.key.set(own_key(env, headers, direction));
    look_up(env, now, true, found);
    if !found.is_some() {
        found.key.set(reply_key(env, headers, direction));
        find(env, now, found);
    }
}

/// Bytes of a connection whose flow is not there. They go on if a socket of this host has the connection, which is
/// then one whose beginning was not seen; nothing else tells that it is none that began just now.
#[inline(always)]
fn missing(
    env: &impl Environment,
    headers: &Headers,
    found: &mut Found,
    direction: Direction,
    outcome: &mut Outcome,
) {
    let rule = outcome.rule;
    let source = End(&headers.source, headers.source_port);
    let destination = End(&headers.destination, headers.destination_port);
    let (local, remote) = match direction {
        Direction::Ingress => (destination, source),
        Direction::Egress => (source, destination),
    };
    let is_forwarded = env.flow_time() < u64::from(env.forwarded_until()) * 1_000_000_000;
    if !env.socket(headers.version, local, remote).is_in(CONNECTION) && !is_forwarded {
        outcome.reason = Reason::TlsUnseen;
        return;
    }
    found.key.set(own_key(env, headers, direction));
    found.flow = FlowValue {
        last_seen: env.flow_time(),
        generation: env.generation(),
        rule,
        state: FlowState::TcpEstablished as u8,
        ..FlowValue::NONE
    };
    let unverified = Progress::of(State::Unverified);
    let flow = Flow { mine: unverified, other: unverified, counted: None };
    if store(env, found, true, &flow) {
        env.count_beginning(rule, Beginning::Unverified);
    } else {
        outcome.reason = Reason::FlowTableFull;
    }
}

impl Flow {
    #[inline(always)]
    fn of(value: &FlowValue, is_client: bool) -> Self {
        let [a, b, c, d, e, f] = value.begun;
        let is_there = value.flags & FLOW_TLS != 0;
        let progress = |low, middle, high| {
            let bits = u32::from_le_bytes([low, middle, high, 0]);
            Progress::from_bits(if is_there { bits } else { 0 })
        };
        let (client, server) = (progress(a, b, c), progress(d, e, f));
        let (mine, other) = if is_client { (client, server) } else { (server, client) };
        Self { mine, other, counted: None }
    }

    /// It cannot be told any more how the sender began.
    #[inline(always)]
    fn give_up(&mut self) {
        self.mine = Progress::of(State::Unverified);
        self.counted = Some(Beginning::Unverified);
    }

    /// The sender did not begin as TLS.
    #[inline(always)]
    fn is_plaintext(&mut self) {
        self.mine = self.mine.with(State::Plaintext);
        // Of two ends that speak plaintext the first counts.
        if self.other.state() != State::Plaintext {
            self.counted = Some(Beginning::Plaintext);
        }
    }
}

/// Stores what has changed, if anything has; false if it could not be. An older program, still on another hook during a
/// swap, judges and does not write.
#[inline(always)]
fn store(env: &impl Environment, found: &mut Found, is_client: bool, flow: &Flow) -> bool {
    let (client, server) = if is_client { (flow.mine, flow.other) } else { (flow.other, flow.mine) };
    let ([a, b, c, _], [d, e, f, _]) = (client.bits().to_le_bytes(), server.bits().to_le_bytes());
    let begun = [a, b, c, d, e, f];
    let value = &mut found.flow;
    if (value.flags & FLOW_TLS != 0 && value.begun == begun) || begun == [0; 6] {
        return true;
    }
    if value.generation > env.generation() {
        return true;
    }
    value.begun = begun;
    value.flags |= FLOW_TLS;
    value.last_seen = env.flow_time();
    env.put_flow(&found.key, value).is_ok()
}
