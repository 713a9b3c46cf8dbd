//! UDP: a client begins with DTLS's ClientHello or a long header of QUIC, and goes on so until its server answers
//! likewise.

use bulkhead_abi::recall;

use super::progress::{Progress, State};
use super::{COUNTED_TLS, Comparison, IS_CLIENT, IS_NEW, PLAINTEXT, REQUIRED};
use crate::parse::Headers;
use crate::{Environment, Packet};

const UDP: u32 = 8;
/// Where the first handshake message of a DTLS record has its type (RFC 6347 section 4.1).
const MESSAGE: u32 = 13;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// Takes what is known of a datagram's flow; whether it is to be compared.
#[inline(always)]
pub(super) fn prepare(headers: &Headers, tls: &mut Comparison) -> bool {
    if tls.is(IS_NEW) {
        tls.mine = Progress::of(State::Record(0)).bits();
        tls.other = tls.mine;
    }
    // Observed is the server's side alone.
    if tls.is(IS_CLIENT) && !tls.is(REQUIRED) {
        return false;
    }
    tls.data = headers.transport.wrapping_add(UDP);
    tls.length = headers.transport_length.saturating_sub(UDP);
    match tls.mine().state() {
        State::Unknown => {
            tls.give_up();
            tls.other = tls.mine;
            false
        }
        State::Plaintext => {
            tls.verdict = PLAINTEXT;
            false
        }
        State::Unverified | State::Settled => false,
        // A server that ignores what it does not understand must not be told the rest in plaintext.
        _ if tls.is(IS_CLIENT) && tls.other().state() == State::Settled => {
            tls.mine = Progress::of(State::Settled).bits();
            false
        }
        _ => true,
    }
}

/// Compares a datagram.
#[inline(always)]
pub(super) fn compare(env: &impl Environment, packet: &Packet, tls: &mut Comparison) {
    let is_client = tls.is(IS_CLIENT);
    let Some((begins, goes_on)) = begins(env, packet, (recall(&tls.data), recall(&tls.length)), is_client)
    else {
        return tls.is_unreadable();
    };
    if !begins {
        return tls.is_plaintext();
    }
    // After a HelloVerifyRequest, or the versions that a server knows, the client begins once more.
    tls.mine = Progress::of(if is_client || !goes_on { State::Began } else { State::Settled }).bits();
    if !is_client && goes_on {
        tls.counted = COUNTED_TLS;
    }
}

/// Whether a datagram is one that a client or a server begins with; `None`: it cannot be read.
#[inline(always)]
fn begins(
    env: &impl Environment,
    packet: &Packet,
    (data, length): (u32, u32),
    is_client: bool,
) -> Option<(bool, bool)> {
    if length <= MESSAGE {
        return Some((false, false));
    }
    let [kind, a, b, c, d, ..] = env.read(packet, data, 8)?.to_le_bytes();
    let message = env.read(packet, data.wrapping_add(MESSAGE), 1)? as u8;
    let is_first = if is_client {
        message == CLIENT_HELLO
    } else {
        message == SERVER_HELLO || message == HELLO_VERIFY_REQUEST
    };
    // DTLS 1.0 and 1.2, of which 1.3 is one; records before any key are of epoch 0.
    let is_dtls = a == 0xfe && (b == 0xff || b == 0xfd) && c == 0 && d == 0;
    let begins_dtls = is_dtls && (kind == HANDSHAKE && is_first || !is_client && kind == ALERT);
    let version = u32::from_be_bytes([a, b, c, d]);
    // RFC 9000, RFC 9369, drafts of RFC 9000, and versions that are to be refused (RFC 9000 section 15).
    let is_known = version == 1
        || version == 0x6b33_43cf
        || version >> 8 == 0xff_0000
        || version & 0x0f0f_0f0f == 0x0a0a_0a0a;
    let begins_quic = kind & 0xc0 == 0xc0 && is_known;
    // A server that knows none of them says which it knows (RFC 9000 section 17.2.1).
    let negotiates = !is_client && kind & 0x80 != 0 && version == 0;
    let goes_on = begins_quic || begins_dtls && message != HELLO_VERIFY_REQUEST;
    Some((begins_dtls || begins_quic || negotiates, goes_on))
}
