//! Dropped packets whose senders are to be told: the agent is asked to.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, RingBuf};
use bulkhead_abi::{ANSWER_FORGOTTEN, ANSWER_REJECTED, AnswerRequest, Direction};
use bulkhead_engine::parse::{Headers, protocol};
use bulkhead_engine::{ANSWER_WORDS, Answer};

use crate::sockets::Hook;

/// What the agent is asked to answer: so much that it is a second's at the rate at which it does. A ring
/// of its own, so that no flood of drops fills it, nor it theirs.
#[map]
static ANSWERS: RingBuf = RingBuf::with_byte_size(128 << 10, 0);

/// Which ends were answered last, and when, by a hash of them.
#[map]
pub(crate) static ANSWERED: Array<u64> = Array::with_max_entries(ANSWER_WORDS, 0);

/// Where a TCP header has its sequence number, and where its acknowledgement number.
const SEQUENCE: usize = 4;
const ACKNOWLEDGEMENT: usize = 8;

/// Hands a packet over. What finds no room is sent again by who waits for an answer.
#[inline(always)]
pub(crate) fn ask(hook: impl Hook, headers: &Headers, answer: Answer) {
    let (kind, direction, offset) = match answer {
        Answer::Forgotten => (ANSWER_FORGOTTEN, Direction::Ingress, ACKNOWLEDGEMENT),
        Answer::Rejected(direction) => (ANSWER_REJECTED, direction, SEQUENCE),
    };
    let number = match headers.protocol {
        protocol::TCP => hook.tcp_word(headers.transport, offset),
        _ => Some(0),
    };
    let Some(number) = number else {
        return;
    };
    let Some(mut entry) = ANSWERS.reserve::<AnswerRequest>(0) else {
        return;
    };
    entry.write(AnswerRequest {
        // SAFETY: the helper has no preconditions.
        time: unsafe { bpf_ktime_get_boot_ns() },
        source: headers.source,
        destination: headers.destination,
        number,
        source_port: headers.source_port,
        destination_port: headers.destination_port,
        kind,
        protocol: headers.protocol,
        direction: direction.index() as u8,
        reserved: [0; 5],
    });
    entry.submit(0);
}
