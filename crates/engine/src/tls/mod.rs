//! Whether connections begin as TLS: the bytes that each end sends first are compared with the header of a TLS
//! record (RFC 8446 section 5.1) that holds a handshake, and of datagrams with DTLS and QUIC.
//!
//! TCP's stream is compared position by position, however it is cut into segments. Until the other end has
//! acknowledged the bytes that are compared, what is sent of them once more is compared once more: what an end has
//! received is what was compared, whatever else was sent and lost, or had a wrong checksum. See docs/decisions/0052.

mod datagram;
mod progress;
mod record;
mod settled;
mod stream;

use bulkhead_abi::{
    CELL_TLS_POSTGRES, CELL_TLS_REQUIRED, Direction, FLOW_ESTABLISHED, FLOW_FIN_RESPONDER, FLOW_TLS,
    FlowState, FlowValue, recall,
};

use crate::flow::{find, look_up, own_key, reply_key};
use crate::parse::{Role, protocol};
use crate::socket::CONNECTION;
use crate::untracked::{ends, is_taken_up};
use crate::{Calls, Environment, Metadata, Packet, Reason};
use progress::{Progress, State};
pub(crate) use settled::is_settled;

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

/// What comes of a comparison, as a number in memory.
const PASS: u32 = 0;
/// The packet is of an end that did not begin as TLS.
const PLAINTEXT: u32 = 1;
/// It comes too early, or cannot be read.
const UNSEEN: u32 = 2;

/// [`Comparison::counted`]: nothing; else a [`Beginning`].
const NOTHING: u32 = 0;
const COUNTED_TLS: u32 = 1;
const COUNTED_PLAINTEXT: u32 = 2;
const COUNTED_UNVERIFIED: u32 = 3;

/// What begins otherwise is dropped.
const REQUIRED: u32 = 1;
/// PostgreSQL's SSLRequest may come first.
const POSTGRES: u32 = 1 << 1;
/// The packet goes the way of the flow's first one.
const IS_CLIENT: u32 = 1 << 2;
/// What comes too early is held back.
const HOLDS_BACK: u32 = 1 << 3;

/// A reply of the flow, or the client's answer to its SYN-ACK, was seen.
const IS_ESTABLISHED: u32 = 1 << 4;
/// The server has sent a FIN.
const IS_ENDED: u32 = 1 << 5;
/// The packet is the flow's first one.
const IS_NEW: u32 = 1 << 6;

/// One packet's comparison, as it is worked on. In memory of a map, like all metadata, and read back from there after
/// each step: the verifier would else look at every step once for each state that it can begin in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// How the direction of the packet began: a [`Progress`]; and the other one.
    mine: u32,
    other: u32,
    /// How far the packet's bytes lie behind its direction's SYN.
    at: u32,
    /// Where they are in the packet, and how many.
    data: u32,
    length: u32,
    /// What they are compared with: [`REQUIRED`] and the like.
    terms: u32,
    /// What comes of it.
    verdict: u32,
    /// What is to be counted; a flow counts once as each.
    counted: u32,
}

/// Looks at how a packet's flow begins, whose cell has [`bulkhead_abi::CELL_TLS`] among `flags`, and which a rule or a
/// flow has just admitted: the outcome in the metadata is a passing one. It stays, or becomes a drop.
///
/// The flow is the one that was looked up last: by [`crate::admit`] or [`look_up_either`] where a rule admits the
/// packet, by [`crate::reply`] or [`crate::untracked`] where a flow does.
#[inline(always)]
pub fn begins(env: &impl Calls, packet: &Packet, meta: &mut Metadata, direction: Direction, flags: u8) {
    let Metadata { headers, found, outcome, .. } = meta;
    let rule = outcome.rule;
    if headers.protocol != protocol::TCP && headers.protocol != protocol::UDP {
        return;
    }
    let is_new = !found.is_some() && matches!(headers.role, Role::Open | Role::Datagram);
    let is_required = flags & CELL_TLS_REQUIRED != 0;
    let is_missing = !found.is_some() && !is_new;
    if is_missing
        && !(is_required && stream::has_data(packet, headers) && is_found_again(env, meta, direction))
    {
        return;
    }
    let found = &mut meta.found;
    let term = |is: bool, bit: u32| if is { bit } else { 0 };
    let is_client = found.key.direction == direction.index() as u8;
    let terms = term(is_required, REQUIRED)
        | term(flags & CELL_TLS_POSTGRES != 0, POSTGRES)
        | term(is_client, IS_CLIENT)
        | term(env.holds_back(), HOLDS_BACK)
        | term(found.is_established(), IS_ESTABLISHED)
        | term(found.flow.flags & FLOW_FIN_RESPONDER != 0, IS_ENDED)
        | term(is_new, IS_NEW);
    meta.tls = Comparison::of(&found.flow, terms);
    if is_missing {
        // It is stored, whatever is known already.
        found.flow.flags &= !FLOW_TLS;
    }
    env.compare(packet, meta);
    if !store(env, meta) && is_required {
        meta.outcome.reason = Reason::FlowTableFull;
        return;
    }
    match recall(&meta.tls.counted) {
        COUNTED_TLS => env.count_beginning(rule, Beginning::Tls),
        COUNTED_PLAINTEXT => env.count_beginning(rule, Beginning::Plaintext),
        COUNTED_UNVERIFIED => env.count_beginning(rule, Beginning::Unverified),
        _ => {}
    }
    match recall(&meta.tls.verdict) {
        PLAINTEXT if is_required => meta.outcome.reason = Reason::NotTls,
        UNSEEN if is_required => meta.outcome.reason = Reason::TlsUnseen,
        _ => {}
    }
}

/// Compares a packet with what is known of its flow, which [`begins`] has put in its metadata. Not a part of it, whose
/// stack is none to build on.
#[inline(always)]
pub fn compare(env: &impl Environment, packet: &Packet, meta: &mut Metadata) {
    let Metadata { headers, tls, .. } = meta;
    if headers.protocol == protocol::TCP {
        if stream::prepare(packet, headers, tls) {
            stream::compare(env, packet, tls);
        }
    } else if datagram::prepare(headers, tls) {
        datagram::compare(env, packet, tls);
    }
}

/// Looks up the flow that a segment goes the way of, or else is a reply of: where rules admit both directions it may be
/// either. Not a part of [`begins`], whose stack is none to build on.
#[inline(always)]
pub fn look_up_either(env: &impl Environment, meta: &mut Metadata, direction: Direction) {
    let Metadata { headers, found, .. } = meta;
    let now = env.flow_time();
    found.key.set(own_key(env, headers, direction));
    look_up(env, now, true, found);
    if !found.is_some() {
        found.key.set(reply_key(env, headers, direction));
        find(env, now, found);
    }
}

/// Bytes of a connection whose flow is not there: whether they go on. They do if a socket of this host has the
/// connection, or it is forwarded and may have been open before the first attach; nothing else tells that it is none
/// that began just now. Of a flow that is only over, what is known of its beginning counts still.
#[inline(always)]
fn is_found_again(env: &impl Calls, meta: &mut Metadata, direction: Direction) -> bool {
    let Metadata { headers, found, outcome, .. } = &mut *meta;
    let (local, remote) = ends(headers, direction);
    let is_open = env.socket(headers.version, local, remote).is_in(CONNECTION);
    if !is_open && !is_taken_up(env, headers, direction) {
        outcome.reason = Reason::TlsUnseen;
        return false;
    }
    found.key.set(own_key(env, headers, direction));
    find(env, env.flow_time(), found);
    if found.reason != Reason::FlowExpired || found.flow.flags & FLOW_TLS == 0 {
        found.flow = FlowValue::NONE;
    }
    let flow = &mut found.flow;
    (flow.generation, flow.rule, flow.state) =
        (env.generation(), outcome.rule, FlowState::TcpEstablished as u8);
    true
}

impl Comparison {
    pub(crate) const NOTHING: Self =
        Self { mine: 0, other: 0, at: 0, data: 0, length: 0, terms: 0, verdict: UNSEEN, counted: NOTHING };

    #[inline(always)]
    fn of(value: &FlowValue, terms: u32) -> Self {
        let [a, b, c, d, e, f] = value.begun;
        let [client, server] = match value.flags & FLOW_TLS {
            0 => [0, 0],
            _ => [u32::from_le_bytes([a, b, c, 0]), u32::from_le_bytes([d, e, f, 0])],
        };
        let (mine, other) = if terms & IS_CLIENT != 0 { (client, server) } else { (server, client) };
        Self { mine, other, terms, verdict: PASS, ..Self::NOTHING }
    }

    #[inline(always)]
    fn mine(&self) -> Progress {
        Progress::from_bits(recall(&self.mine))
    }

    #[inline(always)]
    fn other(&self) -> Progress {
        Progress::from_bits(recall(&self.other))
    }

    #[inline(always)]
    fn is(&self, term: u32) -> bool {
        recall(&self.terms) & term != 0
    }

    /// It cannot be told any more how the sender began.
    #[inline(always)]
    fn give_up(&mut self) {
        self.mine = Progress::of(State::Unverified).bits();
        self.counted = COUNTED_UNVERIFIED;
    }

    /// The sender did not begin as TLS.
    #[inline(always)]
    fn is_plaintext(&mut self) {
        self.mine = self.mine().with(State::Plaintext).bits();
        self.verdict = PLAINTEXT;
        // Of two ends that speak plaintext the first counts.
        if self.other().state() != State::Plaintext {
            self.counted = COUNTED_PLAINTEXT;
        }
    }

    /// The bytes are not there to be read: what may pass nevertheless is not looked at again.
    #[inline(always)]
    fn is_unreadable(&mut self) {
        if !self.is(REQUIRED) {
            self.give_up();
        }
        self.verdict = UNSEEN;
    }
}

/// Stores what has changed, if anything has; false if it could not be. An older program, still on another hook during a
/// swap, judges and does not write.
#[inline(always)]
fn store(env: &impl Environment, meta: &mut Metadata) -> bool {
    let Metadata { found, tls, .. } = meta;
    let (mine, other) = (recall(&tls.mine), recall(&tls.other));
    let (client, server) = if tls.is(IS_CLIENT) { (mine, other) } else { (other, mine) };
    let ([a, b, c, _], [d, e, f, _]) = (client.to_le_bytes(), server.to_le_bytes());
    let begun = [a, b, c, d, e, f];
    let value = &mut found.flow;
    if (value.flags & FLOW_TLS != 0 && value.begun == begun) || client | server == 0 {
        return true;
    }
    if value.generation > env.generation() {
        return true;
    }
    value.begun = begun;
    value.flags |= FLOW_TLS;
    if tls.is(IS_ESTABLISHED) {
        // No new flow pushes out what is known of a connection that both ends have.
        value.flags |= FLOW_ESTABLISHED;
    }
    value.last_seen = env.flow_time();
    env.put_flow(&found.key, value).is_ok()
}
