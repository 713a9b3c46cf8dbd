//! Answers to segments of connections that this host does not know any more, and may have begun.

use crate::flow::within_new_flows;
use crate::parse::Headers;
use crate::rate::hash;
use crate::{Answer, Calls, Environment, RateState};

/// One answer to the same ends in this time, in units of 2^20 ns (a little more than a millisecond): what is
/// sent at once is answered at once, and not each segment of it.
const PAUSE: u32 = 100;

/// How many words keep which ends were answered last, and when, and one more the rate of answers to this host's own
/// sockets.
pub const ANSWER_WORDS: u32 = ENDS + 1;

/// The word of that rate.
pub(crate) const OWN_WORD: u32 = ENDS;

/// Words of ends. A power of two.
const ENDS: u32 = 8192;

/// Asks for an answer to a segment that comes in to no connection, if it is to this host itself: a reset (RFC
/// 9293 section 3.10.7.1. Any segment that gets here has an ACK.) In audit mode the segment passes, and the
/// kernel answers.
#[inline(always)]
pub fn forgotten(env: &impl Calls, headers: &Headers) {
    if !env.audit()
        && env.leaf(headers.version, &headers.destination).is_ok_and(|leaf| leaf.local() != 0 && leaf.own())
        && is_first(env, headers)
        && within_new_flows(env, &headers.source)
    {
        env.answer(headers, Answer::Forgotten);
    }
}

/// Whether nothing was asked for a segment with the same ends just before; from now on it was. Other ends
/// that share the word may make it forget that: then they are answered twice.
#[inline(always)]
pub(crate) fn is_first(env: &impl Environment, headers: &Headers) -> bool {
    // This host has few addresses.
    let [a, b, c, d] = headers.source;
    let ports = u32::from(headers.source_port) << 16 | u32::from(headers.destination_port);
    let hash = hash(&[a, b ^ ports, c, d]);
    let Some(state) = env.answer_state((hash >> (64 - ENDS.trailing_zeros())) as u32) else {
        return false;
    };
    // Which ends above, when below. A word that nothing has used is of no ends.
    let (ends, now) = ((hash as u32 | 1), (env.flow_time() >> 20) as u32);
    let last = state.load();
    if (last >> 32) as u32 == ends && now.wrapping_sub(last as u32) < PAUSE {
        return false;
    }
    state.compare_exchange(last, u64::from(ends) << 32 | u64::from(now));
    true
}
