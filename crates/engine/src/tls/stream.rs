//! TCP: the bytes of a direction are those behind its SYN (RFC 9293 section 3.4).

use bulkhead_abi::FlowState;

use super::progress::{Progress, RECORD, SEQUENCE, State};
use super::record::{Window, both, prelude};
use super::{Beginning, Flow, Terms, Verdict};
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

/// Compares a segment with how its direction has to begin.
#[inline(always)]
pub(super) fn compare(
    env: &impl Environment,
    packet: &Packet,
    headers: &Headers,
    terms: Terms,
    (is_new, state): (bool, u8),
    flow: &mut Flow,
) -> Verdict {
    let Some(segment) = segment(packet, headers) else {
        return Verdict::Unseen;
    };
    // A reset's data reach nobody.
    if headers.detail & tcp::RST != 0 {
        return Verdict::Pass;
    }
    let mut start = segment.sequence;
    match headers.role {
        Role::Open => {
            if is_new {
                flow.mine = Progress::after(segment.sequence);
                flow.other = Progress::of(State::Unknown);
            } else if !flow.mine.is_open() || flow.mine.distance(segment.sequence) != 0 {
                // Another connection may begin. Which one it is only the answer tells: a SYN that is not answered
                // must change nothing, and its data cannot be compared yet.
                let is_half_open = state == FlowState::TcpSyn as u8;
                let has_data = flow.mine.is_open() && flow.mine.state() != State::Record(0);
                let is_held = segment.length != 0 || is_half_open && has_data;
                return if is_held && env.holds_back() { Verdict::Unseen } else { Verdict::Pass };
            }
            start = start.wrapping_add(1);
        }
        Role::Accept => {
            accepted(&segment, flow);
            start = start.wrapping_add(1);
        }
        _ => {}
    }
    if headers.detail & tcp::ACK != 0 {
        received(segment.acknowledgement, terms, flow);
    }
    if segment.length == 0 {
        return Verdict::Pass;
    }
    if headers.first_fragment != 0 && flow.mine.is_open() && terms.required && env.holds_back() {
        // Its other fragments have bytes that are not compared.
        return Verdict::Unseen;
    }
    match flow.mine.state() {
        // It was open before anybody asked.
        State::Unknown => {
            flow.give_up();
            if !matches!(flow.other.state(), State::Plaintext) && !flow.other.is_open() {
                flow.other = Progress::of(State::Unverified);
            }
            Verdict::Pass
        }
        State::Settled | State::Unverified => Verdict::Pass,
        State::Plaintext => Verdict::Plaintext,
        State::Record(_) | State::Prelude(_) | State::Began => {
            bytes(env, packet, &segment, start, terms, flow)
        }
    }
}

/// A SYN-ACK: it says where both directions begin. Who sends it has received the SYN that it acknowledges, and data
/// of that one perhaps.
#[inline(always)]
fn accepted(segment: &Segment, flow: &mut Flow) {
    let syn = segment.acknowledgement.wrapping_sub(1);
    let ahead = flow.other.distance(syn);
    // Data that came with the SYN are acknowledged with it; nothing else is, before the first SYN-ACK.
    let is_first = flow.mine.state() == State::Unknown;
    let is_known = match flow.other.state() {
        State::Unknown | State::Unverified => false,
        State::Record(0) | State::Settled | State::Plaintext => ahead == 0,
        State::Record(_) | State::Prelude(_) | State::Began => ahead == 0 || is_first && ahead <= 0xffff,
    };
    if !is_known {
        flow.other = Progress::after(syn);
    }
    if !is_known || is_first || flow.mine.distance(segment.sequence) != 0 {
        flow.mine = Progress::after(segment.sequence);
    }
}

/// The sender has received the other's bytes up to a sequence number. Those that are compared are settled then: it has
/// got no others. What another CPU has compared and could not store is made good so, but for the first byte.
#[inline(always)]
fn received(acknowledgement: u32, terms: Terms, flow: &mut Flow) {
    let bytes = flow.other.distance(acknowledgement.wrapping_sub(1));
    let whole = if terms.postgres { both(!terms.is_client) } else { RECORD };
    if bytes > SEQUENCE / 2 {
        return;
    }
    match flow.other.state() {
        State::Began if bytes >= whole => flow.other = flow.other.with(State::Settled),
        State::Record(compared) if compared != 0 && compared < bytes => {
            let state = if bytes < RECORD { State::Record(bytes) } else { State::Began };
            flow.other = flow.other.with(state);
        }
        State::Prelude(compared) if compared < bytes => {
            let state = if bytes < whole { State::Prelude(bytes) } else { State::Began };
            flow.other = flow.other.with(state);
        }
        _ => {}
    }
}

/// Compares those bytes of a segment that are among the first ones.
#[inline(always)]
fn bytes(
    env: &impl Environment,
    packet: &Packet,
    segment: &Segment,
    start: u32,
    terms: Terms,
    flow: &mut Flow,
) -> Verdict {
    let whole = if terms.postgres { both(terms.is_client) } else { RECORD };
    let compared = match flow.mine.state() {
        State::Record(bytes) | State::Prelude(bytes) => bytes,
        _ => whole,
    };
    // 0 is the place of the SYN: what is sent there keeps a connection alive, and nobody reads it.
    let at = flow.mine.distance(start);
    let from = if at == 0 { 0 } else { at - 1 };
    if compared < whole && from > compared {
        return if env.holds_back() { Verdict::Unseen } else { Verdict::Pass };
    }
    let end = at.wrapping_add(segment.length).wrapping_sub(1);
    let to = if end < whole { end } else { whole };
    if at > SEQUENCE / 2 || from >= to {
        return Verdict::Pass;
    }
    // Where the bytes from `from` on lie in the packet.
    let data = segment.data.wrapping_add(from + 1 - at);
    let place = |base: u32, length: u32| {
        let (first, last) =
            (if from > base { from } else { base }, if to < base + length { to } else { base + length });
        if first >= last {
            return Some(Window { bytes: 0, mask: 0 });
        }
        let read = env.read(packet, data.wrapping_add(first - from), last - first)?;
        Some(Window::new(read, first - base, last - first))
    };
    let Some(record) = place(0, RECORD) else {
        return unreadable(terms, flow);
    };
    let is_record = record.is_record(terms.is_client);
    let mut state = State::Record(if to > compared { to } else { compared });
    let mut is_whole = to >= RECORD;
    let mut is_as_it_has_to = is_record;
    let may_be_prelude = match flow.mine.state() {
        State::Record(0) => record.begins_otherwise(),
        State::Record(_) => false,
        State::Prelude(_) => true,
        _ => !is_record,
    };
    if terms.postgres && may_be_prelude {
        let before = prelude(terms.is_client);
        let (Some(first), Some(second)) = (place(0, before), place(before, RECORD)) else {
            return unreadable(terms, flow);
        };
        is_as_it_has_to = first.is_prelude(terms.is_client) && second.is_record(terms.is_client);
        state = State::Prelude(if to > compared { to } else { compared });
        is_whole = to >= whole;
    }
    if !is_as_it_has_to {
        flow.is_plaintext();
        return Verdict::Plaintext;
    }
    if flow.mine.state() == State::Began {
        return Verdict::Pass;
    }
    if !is_whole {
        flow.mine = flow.mine.with(state);
        return Verdict::Pass;
    }
    // Only where something may be dropped does it matter what the other end has received.
    flow.mine = flow.mine.with(if terms.required { State::Began } else { State::Settled });
    if !terms.is_client {
        flow.counted = Some(Beginning::Tls);
    }
    Verdict::Pass
}

/// The bytes are not there to be read: what may pass nevertheless is not looked at again.
#[inline(always)]
fn unreadable(terms: Terms, flow: &mut Flow) -> Verdict {
    if !terms.required {
        flow.give_up();
    }
    Verdict::Unseen
}
