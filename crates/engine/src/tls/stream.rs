//! TCP: the bytes of a direction are those behind its SYN (RFC 9293 section 3.4).

use bulkhead_abi::recall;

use super::progress::{Progress, RECORD, SEQUENCE, State};
use super::record::{Window, both, prelude};
use super::{
    COUNTED_TLS, Comparison, HOLDS_BACK, IS_CLIENT, IS_ENDED, IS_ESTABLISHED, IS_NEW, PLAINTEXT, POSTGRES,
    REQUIRED, UNSEEN,
};
use crate::parse::{Headers, Role, tcp};
use crate::{Environment, Packet};

/// A segment, as far as it is looked at here.
#[derive(Clone, Copy)]
struct Segment {
    sequence: u32,
    acknowledgement: u32,
    /// Where its data begin in the packet, and how many bytes of them are there.
    data: u32,
    length: u32,
    /// Its other fragments have more data, or some of them are urgent, which the application is not given in their place.
    is_hidden: bool,
}

/// Whether a segment has data, or other fragments of it may have; not where that cannot be read, which no parsed packet
/// is.
#[inline(always)]
pub(super) fn has_data(packet: &Packet, headers: &Headers) -> bool {
    headers.first_fragment != 0 || segment(packet, headers).is_some_and(|segment| segment.length != 0)
}

#[inline(always)]
fn segment(packet: &Packet, headers: &Headers) -> Option<Segment> {
    let fixed = packet.header::<20>(headers.transport as usize)?;
    let header = u32::from(fixed.byte(12) >> 4) * 4;
    Some(Segment {
        sequence: u32::from_be(fixed.word(4)),
        acknowledgement: u32::from_be(fixed.word(8)),
        data: headers.transport.wrapping_add(header),
        length: headers.transport_length.saturating_sub(header),
        is_hidden: headers.first_fragment != 0 || headers.detail & tcp::URG != 0,
    })
}

/// Takes from a segment's header what it says of both directions; whether its bytes are to be compared.
#[inline(always)]
pub(super) fn prepare(packet: &Packet, headers: &Headers, tls: &mut Comparison) -> bool {
    let Some(segment) = segment(packet, headers) else {
        tls.verdict = UNSEEN;
        return false;
    };
    // A reset's data reach nobody.
    if headers.detail & tcp::RST != 0 {
        return false;
    }
    let is_client = tls.is(IS_CLIENT);
    if !is_client && !tls.is(REQUIRED) && tls.other().is_open() {
        // Observed is the server alone: of what the client sends now nothing will be known.
        tls.other = Progress::of(State::Unknown).bits();
    }
    if headers.role == Role::Open {
        if tls.is(IS_NEW) {
            let mine = Progress::after(segment.sequence);
            tls.mine = if tls.is(REQUIRED) { mine } else { Progress::of(State::Unknown) }.bits();
            tls.other = Progress::of(State::Unknown).bits();
        } else if !opens_again(&segment, tls) {
            return false;
        }
    } else if is_client {
        if !goes_on(&segment, tls) {
            tls.verdict = UNSEEN;
            return false;
        }
    } else if headers.role == Role::Accept {
        accepted(&segment, tls);
    }
    if headers.detail & tcp::ACK != 0 {
        received(segment.acknowledgement, tls);
    }
    let mine = tls.mine();
    let is_compared = mine.is_open() || mine.state() == State::Plaintext;
    if segment.is_hidden && is_compared && tls.is(REQUIRED) && tls.is(HOLDS_BACK) {
        tls.verdict = UNSEEN;
        return false;
    }
    if segment.length == 0 {
        if !is_client && mine.state() == State::Unknown && tls.other().is_open() {
            // It answers something else than the client's SYN.
            tls.mine = Progress::of(State::Unverified).bits();
        }
        return false;
    }
    let syn = u32::from(headers.detail & tcp::SYN != 0);
    tls.at = mine.distance(segment.sequence.wrapping_add(syn));
    (tls.data, tls.length) = (segment.data, segment.length);
    match mine.state() {
        // It was open before anybody asked.
        State::Unknown => {
            tls.give_up();
            let other = tls.other();
            if other.state() != State::Plaintext && !other.is_open() {
                tls.other = Progress::of(State::Unverified).bits();
            }
            false
        }
        State::Settled | State::Unverified => false,
        State::Plaintext => {
            tls.verdict = PLAINTEXT;
            false
        }
        State::Offered if tls.is(HOLDS_BACK) => {
            tls.verdict = UNSEEN;
            false
        }
        State::Offered => {
            tls.mine = mine.with(State::Record(0)).bits();
            true
        }
        State::Record(_) | State::Prelude(_) | State::Began | State::BeganBehind => true,
    }
}

/// A SYN whose flow is there: whether it is the one that the flow began with, sent again. Another connection may begin.
/// Which one it is only the answer tells: a SYN that is not answered must change nothing, and its data cannot be
/// compared yet.
#[inline(always)]
fn opens_again(segment: &Segment, tls: &mut Comparison) -> bool {
    let mine = tls.mine();
    if mine.is_open() && mine.distance(segment.sequence) == 0 {
        return true;
    }
    // Of data with a SYN the answer says how many were received, and not with which SYN.
    let is_ambiguous = !tls.other().is_known() && mine.is_open() && mine.state() != State::Record(0);
    if (segment.length != 0 || segment.is_hidden || is_ambiguous) && tls.is(HOLDS_BACK) {
        tls.verdict = UNSEEN;
    }
    false
}

/// A client's segment behind its SYN: whether it belongs to the connection whose SYN-ACK was seen. Until one was, and
/// while the server has said nothing, the client can have received nothing but that one: what acknowledges something
/// else is of another handshake, in which its bytes lie elsewhere.
#[inline(always)]
fn goes_on(segment: &Segment, tls: &mut Comparison) -> bool {
    let (mine, other) = (tls.mine(), tls.other());
    let bytes = other.distance(segment.acknowledgement.wrapping_sub(1));
    if other.state() == State::Offered && bytes == 0 {
        tls.other = other.with(State::Record(0)).bits();
        tls.terms |= IS_ESTABLISHED;
        return true;
    }
    if !mine.is_open() || !tls.is(REQUIRED) || !tls.is(HOLDS_BACK) {
        return true;
    }
    match other.state() {
        // What the server sends passes by another rule, SYN-ACK and all: nothing tells what it has received.
        State::Unknown if tls.is(IS_ESTABLISHED) => {
            if mine.has_begun() {
                tls.mine = mine.with(State::Settled).bits();
            }
            true
        }
        State::Unknown | State::Unverified => false,
        State::Offered | State::Record(0) | State::Plaintext => bytes == 0 || bytes == 1 && tls.is(IS_ENDED),
        State::Record(_) | State::Prelude(_) | State::Began | State::BeganBehind | State::Settled => true,
    }
}

/// A server's SYN-ACK: it says where both directions begin. Who sends it has received the SYN that it acknowledges, and
/// data of that one perhaps. Which one of several the client has received only its acknowledgement tells.
#[inline(always)]
fn accepted(segment: &Segment, tls: &mut Comparison) {
    let (mine, other) = (tls.mine(), tls.other());
    let syn = segment.acknowledgement.wrapping_sub(1);
    let ahead = other.distance(syn);
    // Data that came with the SYN are acknowledged with it; nothing else is, before the first SYN-ACK.
    let is_first = !mine.is_known();
    let is_same = !is_first && mine.distance(segment.sequence) == 0;
    let is_known = match other.state() {
        _ if !tls.is(REQUIRED) => is_same,
        State::Unknown | State::Unverified | State::Offered => false,
        State::Record(0) => ahead == 0,
        State::Settled | State::Plaintext => ahead == 0 && is_same,
        State::Record(_) | State::Prelude(_) | State::Began | State::BeganBehind => {
            ahead == 0 || is_first && ahead <= 0xffff
        }
    };
    if !is_known {
        let begins = Progress::after(syn);
        tls.other = if tls.is(REQUIRED) { begins } else { Progress::of(State::Unknown) }.bits();
    }
    if !is_known || is_first || mine.state() == State::Offered && !is_same {
        let begins = Progress::after(segment.sequence);
        tls.mine = if tls.is(REQUIRED) { begins.with(State::Offered) } else { begins }.bits();
    }
}

/// The sender has received the other's bytes up to a sequence number. Those that are compared are settled then: it has
/// got no others. What another CPU has compared and could not store is made good so, but for the first byte.
#[inline(always)]
fn received(acknowledgement: u32, tls: &mut Comparison) {
    // Of a server whose SYN-ACK was not seen it is not known that it means this connection.
    if !tls.is(IS_CLIENT) && !tls.mine().is_known() {
        return;
    }
    let other = tls.other();
    let bytes = other.distance(acknowledgement.wrapping_sub(1));
    let whole = whole(other.state(), !tls.is(IS_CLIENT));
    if bytes > SEQUENCE / 2 {
        return;
    }
    let state = match other.state() {
        State::Began | State::BeganBehind if bytes >= whole => State::Settled,
        State::Record(compared) if compared != 0 && compared < bytes => {
            if bytes < RECORD {
                State::Record(bytes)
            } else {
                State::Began
            }
        }
        State::Prelude(compared) if compared < bytes => {
            if bytes < whole {
                State::Prelude(bytes)
            } else {
                State::BeganBehind
            }
        }
        _ => return,
    };
    tls.other = other.with(state).bits();
}

/// How many bytes of a direction are compared at most, in a state in which the first one was.
#[inline(always)]
fn whole(state: State, is_client: bool) -> u32 {
    if matches!(state, State::Prelude(_) | State::BeganBehind) { both(is_client) } else { RECORD }
}

/// Compares those bytes of a segment that are among the first ones.
#[inline(always)]
pub(super) fn compare(env: &impl Environment, packet: &Packet, tls: &mut Comparison) {
    let (mine, is_client) = (tls.mine(), tls.is(IS_CLIENT));
    // Whether something comes before TLS the first byte tells.
    let whole = match mine.state() {
        State::Record(0) if tls.is(POSTGRES) => both(is_client),
        state => whole(state, is_client),
    };
    let compared = match mine.state() {
        State::Record(bytes) | State::Prelude(bytes) => bytes,
        _ => whole,
    };
    // 0 is the place of the SYN: what is sent there keeps a connection alive, and nobody reads it.
    let at = recall(&tls.at);
    let from = if at == 0 { 0 } else { at - 1 };
    if compared < whole && from > compared {
        if tls.is(HOLDS_BACK) {
            tls.verdict = UNSEEN;
        }
        return;
    }
    let end = at.wrapping_add(recall(&tls.length)).wrapping_sub(1);
    let to = if end < whole { end } else { whole };
    if at > SEQUENCE / 2 {
        // Who receives what begins before the SYN takes from it what lies behind. No stack sends such a segment.
        if at.wrapping_add(recall(&tls.length)) > SEQUENCE + 1 && tls.is(HOLDS_BACK) {
            tls.verdict = UNSEEN;
        }
        return;
    }
    if from >= to {
        return;
    }
    // Where the bytes from `from` on lie in the packet.
    let data = recall(&tls.data).wrapping_add(from + 1 - at);
    // Not an `Option` of a window: of none the compiler would read what was never written, which the verifier refuses.
    let mut is_unreadable = false;
    let mut place = |base: u32, length: u32| {
        let first = if from > base { from } else { base };
        let last = if to < base + length { to } else { base + length };
        if first >= last {
            return Window::EMPTY;
        }
        match env.read(packet, data.wrapping_add(first - from), last - first) {
            Some(read) => Window::new(read, first - base, last - first),
            None => {
                is_unreadable = true;
                Window::EMPTY
            }
        }
    };
    let record = place(0, RECORD);
    let is_record = record.is_record(is_client);
    let reached = if to > compared { to } else { compared };
    let (mut state, mut is_whole, mut is_as_it_has_to) = (State::Record(reached), to >= RECORD, is_record);
    let may_be_prelude = match mine.state() {
        State::Record(0) => record.begins_otherwise(),
        State::Record(_) => false,
        State::Prelude(_) | State::BeganBehind => true,
        _ => false,
    };
    if tls.is(POSTGRES) && may_be_prelude {
        let before = prelude(is_client);
        let (first, second) = (place(0, before), place(before, RECORD));
        is_as_it_has_to = first.is_prelude(is_client) && second.is_record(is_client);
        (state, is_whole) = (State::Prelude(reached), to >= whole);
    }
    if is_unreadable {
        return tls.is_unreadable();
    }
    if !is_as_it_has_to {
        return tls.is_plaintext();
    }
    if mine.has_begun() {
        return;
    }
    if !is_whole {
        tls.mine = mine.with(state).bits();
        return;
    }
    // Only where something may be dropped does it matter what the other end has received.
    let began = if matches!(state, State::Prelude(_)) { State::BeganBehind } else { State::Began };
    tls.mine = mine.with(if tls.is(REQUIRED) { began } else { State::Settled }).bits();
    if !is_client {
        tls.counted = COUNTED_TLS;
    }
}
