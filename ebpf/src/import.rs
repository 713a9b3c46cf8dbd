//! Stores flows that the agent hands over: those of an earlier table, and the host's own
//! connections. Attached to nothing; the agent runs it, one flow a run.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use bulkhead_abi::{
    Direction, FLOW_TLS, FlowRecord, FlowValue, IMPORT_EVICTED, IMPORT_KEPT, IMPORT_MALFORMED,
    IMPORT_REFUSED, IMPORT_STORED, RECORD_NEW,
};
use bulkhead_engine::Environment as _;
use bulkhead_engine::flow_table::Stored;

use crate::environment::MAPS;
use crate::flows::{is_over, put};
use crate::nesting::Place;

#[classifier]
fn flow_import(ctx: TcContext) -> i32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + size_of::<FlowRecord>() > end {
        return IMPORT_MALFORMED as i32;
    }
    // SAFETY: the record was just checked to lie within the packet, and any bytes are one. BPF
    // loads from packets may be unaligned.
    let record = unsafe { (start as *const FlowRecord).read() };
    let Some(place) = Place::take(Direction::Ingress) else {
        return IMPORT_REFUSED as i32;
    };
    let done = import(record);
    place.give_back();
    done as i32
}

/// Stores a flow unless what is there is newer.
#[inline(always)]
fn import(record: FlowRecord) -> u32 {
    let FlowRecord { key, mut flow } = record;
    let is_new = flow.begun[0] == RECORD_NEW;
    let mut there = FlowValue::NONE;
    // What is open now was seen now, however long it is silent.
    let is_there = MAPS.flow(&key, &mut there, |there| (is_new && !is_over(there)).then_some(flow.last_seen));
    if is_there && !is_over(&there) && (is_new || there.last_seen >= flow.last_seen) {
        return IMPORT_KEPT;
    }
    // How it began was not seen here.
    (flow.begun, flow.flags) = ([0; 6], flow.flags & !FLOW_TLS);
    match put(&key, &flow) {
        Stored::Done => IMPORT_STORED,
        Stored::Evicted => IMPORT_EVICTED,
        Stored::Refused => IMPORT_REFUSED,
    }
}
