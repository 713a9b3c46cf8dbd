//! Segments to no connection: the agent is asked to answer them by a reset.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, RingBuf};
use bulkhead_abi::ResetRequest;
use bulkhead_engine::ANSWER_WORDS;
use bulkhead_engine::parse::Headers;

use crate::sockets::Hook;

/// What the agent is asked to answer: so much that it is a second's at the rate at which it does. A ring
/// of its own, so that no flood of drops fills it, nor it theirs.
#[map]
static RESETS: RingBuf = RingBuf::with_byte_size(128 << 10, 0);

/// Which ends were answered last, and when, by a hash of them.
#[map]
pub(crate) static ANSWERED: Array<u64> = Array::with_max_entries(ANSWER_WORDS, 0);

/// Hands a segment over. What finds no room is sent again by who waits for an answer.
#[inline(always)]
pub(crate) fn ask(hook: impl Hook, headers: &Headers) {
    let Some(acknowledgement) = hook.acknowledgement(headers.transport) else {
        return;
    };
    let Some(mut entry) = RESETS.reserve::<ResetRequest>(0) else {
        return;
    };
    entry.write(ResetRequest {
        // SAFETY: the helper has no preconditions.
        time: unsafe { bpf_ktime_get_boot_ns() },
        source: headers.source,
        destination: headers.destination,
        acknowledgement,
        source_port: headers.source_port,
        destination_port: headers.destination_port,
    });
    entry.submit(0);
}
