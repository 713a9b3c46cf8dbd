//! TCP: the bytes of a direction are those behind its SYN (RFC 9293 section 3.4).

use bulkhead_abi::{FlowState, recall};

use super::progress::{Progress, RECORD, SEQUENCE, State};
use super::record::{Window, both, prelude};
use super::{COUNTED_TLS, Comparison, HOLDS_BACK, IS_CLIENT, PLAINTEXT, POSTGRES, REQUIRED, UNSEEN};
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
}

/// Bytes of data in a segment; none where that cannot be read, which no parsed packet has.
#[inline(always)]
pub(super) fn payload(packet: &Packet, headers: &Headers) -> u32 {
    segment(packet, headers).map_or(0, |segment| segment.length)
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
    })
}

/// Takes from a segment's header what it says of both directions; whether its bytes are to be compared.
#[inline(always)]
pub(super) fn prepare(
    packet: &Packet,
    headers: &Headers,
    tls: &mut Comparison,
    (is_new, state): (bool, u8),
) -> bool {
    let Some(segment) = segment(packet, headers) else {
        tls.verdict = UNSEEN;
        return false;
    };
    // A reset's data reach nobody.
    if headers.detail & tcp::RST != 0 {
        return false;
    }
    if headers.role == Role::Open {
        if is_new {
            tls.mine = Progress::after(segment.sequence).bits();
            tls.other = Progress::of(State::Unknown).bits();
        } else if !opens_again(&segment, tls, state) {
            return false;
        }
    }
    if headers.role == Role::Accept {
        accepted(&segment, tls);
    }
    if headers.detail & tcp::ACK != 0 {
        received(segment.acknowledgement, tls);
    }
    if segment.length == 0 {
        return false;
    }
    let mine = tls.mine();
    if headers.first_fragment != 0 && mine.is_open() && tls.is(REQUIRED) && tls.is(HOLDS_BACK) {
        // Its other fragments have bytes that are not compared.
        tls.verdict = UNSEEN;
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
        State::Record(_) | State::Prelude(_) | State::Began => true,
    }
}

/// A SYN whose flow is there: whether it is the one that the flow began with, sent again. Another connection may begin.
/// Which one it is only the answer tells: a SYN that is not answered must change nothing, and its data cannot be
/// compared yet.
#[inline(always)]
fn opens_again(segment: &Segment, tls: &mut Comparison, state: u8) -> bool {
    let mine = tls.mine();
    if mine.is_open() && mine.distance(segment.sequence) == 0 {
        return true;
    }
    let is_half_open = state == FlowState::TcpSyn as u8;
    let has_data = mine.is_open() && mine.state() != State::Record(0);
    if (segment.length != 0 || is_half_open && has_data) && tls.is(HOLDS_BACK) {
        tls.verdict = UNSEEN;
    }
    false
}

/// A SYN-ACK: it says where both directions begin. Who sends it has received the SYN that it acknowledges, and data
/// of that one perhaps.
#[inline(always)]
fn accepted(segment: &Segment, tls: &mut Comparison) {
    let (mine, other) = (tls.mine(), tls.other());
    let syn = segment.acknowledgement.wrapping_sub(1);
    let ahead = other.distance(syn);
    // Data that came with the SYN are acknowledged with it; nothing else is, before the first SYN-ACK.
    let is_first = mine.state() == State::Unknown;
    let is_known = match other.state() {
        State::Unknown | State::Unverified => false,
        State::Record(0) | State::Settled | State::Plaintext => ahead == 0,
        State::Record(_) | State::Prelude(_) | State::Began => ahead == 0 || is_first && ahead <= 0xffff,
    };
    if !is_known {
        tls.other = Progress::after(syn).bits();
    }
    if !is_known || is_first || mine.distance(segment.sequence) != 0 {
        tls.mine = Progress::after(segment.sequence).bits();
    }
}

/// The sender has received the other's bytes up to a sequence number. Those that are compared are settled then: it has
/// got no others. What another CPU has compared and could not store is made good so, but for the first byte.
#[inline(always)]
fn received(acknowledgement: u32, tls: &mut Comparison) {
    let other = tls.other();
    let bytes = other.distance(acknowledgement.wrapping_sub(1));
    let whole = whole(tls, !tls.is(IS_CLIENT));
    if bytes > SEQUENCE / 2 {
        return;
    }
    let state = match other.state() {
        State::Began if bytes >= whole => State::Settled,
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
                State::Began
            }
        }
        _ => return,
    };
    tls.other = other.with(state).bits();
}

/// How many bytes of a direction are compared at most.
#[inline(always)]
fn whole(tls: &Comparison, is_client: bool) -> u32 {
    if tls.is(POSTGRES) { both(is_client) } else { RECORD }
}

/// Compares those bytes of a segment that are among the first ones.
#[inline(always)]
pub(super) fn compare(env: &impl Environment, packet: &Packet, tls: &mut Comparison) {
    let (mine, is_client) = (tls.mine(), tls.is(IS_CLIENT));
    let whole = whole(tls, is_client);
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
    if at > SEQUENCE / 2 || from >= to {
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
        State::Prelude(_) => true,
        _ => !is_record,
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
    if mine.state() == State::Began {
        return;
    }
    if !is_whole {
        tls.mine = mine.with(state).bits();
        return;
    }
    // Only where something may be dropped does it matter what the other end has received.
    tls.mine = mine.with(if tls.is(REQUIRED) { State::Began } else { State::Settled }).bits();
    if !is_client {
        tls.counted = COUNTED_TLS;
    }
}
