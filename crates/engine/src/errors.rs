//! ICMP errors: what they quote, and whom they are believed. See docs/decisions/0032.

use bulkhead_abi::{Address, Direction, Leaf, Rate};

use crate::flow::{find, own_key, reply_key};
use crate::metadata::{Found, Metadata};
use crate::parse::{self, Headers, protocol};
use crate::rate::{hash, is_used_up, take};
use crate::rejected::rejects;
use crate::reply::still_allowed;
use crate::sides::quoted_ends;
use crate::{Calls, Environment, Packet, Reason};

/// How many errors that quote no flow may come about one address: 4 a second after a burst of 16. There
/// are 28,232 ports to guess. A Linux host sends one a second to one address.
const MISSES: Rate = Rate { interval: 250_000_000, tolerance: 15 * 250_000_000 };

/// Words of that rate, which addresses share by their hash: there are no more of them for whoever makes
/// addresses up.
pub const MISS_WORDS: u32 = 4096;

/// An ICMP error passes if it quotes a packet of a tracked flow, goes to the end that sent that packet,
/// and comes from somebody who can know.
#[inline(never)]
pub(crate) fn about_flow(
    env: &impl Calls,
    packet: &Packet,
    meta: &mut Metadata,
    direction: Direction,
) -> Reason {
    let Metadata { headers, quote, found, .. } = meta;
    if let Err(reason) = read_quote(packet, headers, quote) {
        return reason;
    }
    // What goes out is of this host's own kernel, or of who is behind it.
    let is_judged = direction == Direction::Ingress && env.judges_errors();
    if is_judged {
        if !env.ethernet() && !may_know(env, &headers.source, &quote.destination) {
            return Reason::IcmpErrorSource;
        }
        match env.miss_state(miss_word(&quote.destination)) {
            Some(state) if is_used_up(&state, MISSES, env.flow_time()) => return Reason::IcmpErrorRate,
            Some(_) => {}
            None => return Reason::LookupFailed,
        }
    }
    match quoted_flow(env, quote, found, direction) {
        Ok(()) => Reason::IcmpError,
        Err(Reason::NoFlow | Reason::FlowExpired) => {
            if is_judged && let Some(state) = env.miss_state(miss_word(&quote.destination)) {
                take(&state, MISSES, env.flow_time(), 1);
            }
            Reason::IcmpErrorUnrelated
        }
        Err(reason) => reason,
    }
}

/// Whether somebody on an overlay can know what became of packets to `destination`: who has that address,
/// a router that it lies behind, and who else lies behind that router.
#[inline(always)]
fn may_know(env: &impl Environment, source: &Address, destination: &Address) -> bool {
    if source == destination {
        return true;
    }
    if !env.has_routes() {
        return false;
    }
    let behind = env.routed(destination).behind;
    behind != 0 && env.routed(source).speaks_for == behind
}

/// The word that counts errors about packets to an address.
#[inline(always)]
fn miss_word(address: &Address) -> u32 {
    (hash(address) >> (64 - MISS_WORDS.trailing_zeros())) as u32
}

/// Parses the packet that an ICMP error quotes, as carefully as the error itself.
#[inline(never)]
fn read_quote(packet: &Packet, headers: &Headers, quote: &mut Headers) -> Result<(), Reason> {
    let offset = headers.transport + 8;
    let end = headers.transport + headers.transport_length;
    if headers.version == 4 {
        parse::quoted4(packet, offset, quote)?;
    } else {
        parse::quoted6(packet, offset, end, quote)?;
    }
    // Ports, or an echo's identifier, in the 8 bytes that every quote has (RFC 792).
    let at = quote.transport;
    if at + 8 > end {
        return Err(Reason::IcmpErrorMalformed);
    }
    let start = packet.header::<8>(at as usize).ok_or(Reason::IcmpErrorMalformed)?;
    (quote.source_port, quote.destination_port) = match quote.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => (start.be16(0), start.be16(2)),
        // Of ICMP only echoes have flows.
        protocol::ICMP if matches!(start.byte(0), 0 | 8) => (start.be16(4), 0),
        protocol::ICMPV6 if matches!(start.byte(0), 128 | 129) => (start.be16(4), 0),
        protocol::ICMP | protocol::ICMPV6 => return Err(Reason::IcmpErrorUnrelated),
        _ => (0, 0),
    };
    if quote.source == headers.destination { Ok(()) } else { Err(Reason::IcmpErrorUnrelated) }
}

/// Whether a tracked flow that is still allowed has the quoted packet.
#[inline(always)]
fn quoted_flow(
    env: &impl Calls,
    quote: &Headers,
    found: &mut Found,
    direction: Direction,
) -> Result<(), Reason> {
    // The quoted packet went the other way: it started the flow, or was a reply in it.
    let sent = direction.opposite();
    let sides = quoted_ends(env, sent, quote)?;
    let now = env.flow_time();
    found.key.set(own_key(env, quote, sent));
    let mut started = sent;
    find(env, now, found);
    if !found.is_some() {
        found.key.set(reply_key(env, quote, sent));
        started = direction;
        find(env, now, found);
    }
    if !found.is_some() {
        return Err(found.reason);
    }
    still_allowed(env, &found.key, started, sides).map(|_| ())
}

/// Bytes of an ICMP error that is such an answer: its header, and of the datagram the IP header and UDP's.
const ANSWER4: u32 = 8 + 20 + 8;
const ANSWER6: u32 = 8 + 40 + 8;

/// Whether an ICMP error that leaves, and that [`about_flow`] has read, says no more than that this host does not let in
/// a datagram, which the policy wants said: of this host itself, "administratively prohibited" (RFC 1812 section
/// 5.2.7.1, RFC 4443 section 3.1), and quoting nothing but headers.
#[inline(never)]
pub(crate) fn quotes_rejected(env: &impl Calls, packet: &Packet, headers: &Headers, quote: &Headers) -> bool {
    let (kind, code, length) = if headers.version == 4 { (3, 13, ANSWER4) } else { (1, 1, ANSWER6) };
    let is_prohibition = packet
        .header::<2>(headers.transport as usize)
        .is_some_and(|start| start.byte(0) == kind && start.byte(1) == code);
    is_prohibition
        && headers.transport_length == length
        && quote.protocol == protocol::UDP
        && quote.source == headers.destination
        && quote.destination == headers.source
        && env.leaf(headers.version, &headers.source).is_ok_and(Leaf::own)
        && quoted_ends(env, Direction::Ingress, quote)
            .is_ok_and(|sides| rejects(env, sides, protocol::UDP, quote.destination_port))
}
