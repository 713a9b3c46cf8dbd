//! Answers to segments of connections that this host does not know any more, and may have begun.

use crate::Environment;
use crate::flow::within_new_flows;
use crate::layout::Rate;
use crate::parse::Headers;
use crate::rate::{spread, take};

/// One answer to the same ends in this time: what was sent at once is answered at once, and not each
/// segment of it.
const ANSWERS: Rate = Rate { interval: 100_000_000, tolerance: 0 };

/// How many words keep when ends were answered: those of thousands are rarely the same.
pub const ANSWER_WORDS: u32 = 8192;

/// Asks for an answer to a segment that comes in to no connection, if it is to this host itself: a reset (RFC
/// 9293 section 3.10.7.1. Any segment that gets here has an ACK.) In audit mode the segment passes, and the
/// kernel answers.
#[inline(always)]
pub fn forgotten(env: &impl Environment, headers: &Headers) {
    if !env.audit()
        && env.leaf(headers.version, &headers.destination).is_ok_and(|leaf| leaf.local() != 0 && leaf.own())
        && env.answer_state(word(headers)).is_some_and(|state| take(&state, ANSWERS, env.flow_time(), 1))
        && within_new_flows(env, &headers.source)
    {
        env.reset(headers);
    }
}

/// The word of a segment's ends. This host has few addresses.
#[inline(always)]
fn word(headers: &Headers) -> u32 {
    let [a, b, c, d] = headers.source;
    let ports = u32::from(headers.source_port) << 16 | u32::from(headers.destination_port);
    spread(&[a, b ^ ports, c, d], ANSWER_WORDS)
}
