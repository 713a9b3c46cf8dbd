//! The table of flows, and what works on it out of the verifier's way.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use bulkhead_abi::{Direction, FlowBucket, FlowKey, FlowValue};
use bulkhead_engine::flow_table::{self, Buckets, Search, Stored};
use bulkhead_engine::{Environment as _, Metadata};

use crate::environment::{MAPS, STAGED};
use crate::{nesting, settings};

/// The table of flows, and a bucket that holds its seed. Mapped arrays begin at a page, so that
/// each slot is one cache line.
#[map]
static FLOWS: Array<FlowBucket> = Array::with_max_entries(3, BPF_F_MMAPABLE);
/// How far a search of the table has come: an entry for each program that can be at work on this CPU.
#[map]
static SEARCH: PerCpuArray<Search> = PerCpuArray::with_max_entries(1, 0);
/// One entry: flows that had not expired and made room for another.
#[map]
static EVICTED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The table of flows at one moment of the flow clock.
struct Flows {
    now: u64,
}

impl Buckets for Flows {
    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&FlowBucket> {
        FLOWS.get(index)
    }
    #[inline(always)]
    fn mask(&self) -> u32 {
        settings::flow_mask()
    }
    #[inline(always)]
    fn seed(&self) -> u64 {
        FLOWS.get(settings::flow_mask() + 1).map_or(0, FlowBucket::seed)
    }
    #[inline(always)]
    fn search(&self) -> Option<&Search> {
        SEARCH.get(nesting::own_entry())
    }
    #[inline(always)]
    fn displaced(&self, key: &FlowKey) -> u32 {
        flow_displaced(key)
    }
    #[inline(always)]
    fn places(&self, [first, second]: [u32; 2], [end, rest]: [u64; 2]) -> u32 {
        flow_places(first, second, end, rest)
    }
    #[inline(always)]
    fn is_expired(&self, state: u8, last_seen: u64) -> bool {
        self.now.saturating_sub(last_seen) > u64::from(settings::timeout(state)) * 1_000_000_000
    }
}

/// One attempt at storing a flow, or at removing it if there is no value: a [`Stored`], or how
/// many there are of those. A global function: the verifier looks at it once, by itself, and not
/// again at every call. It knows the arguments as memory that may not be there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_put(key: *const FlowKey, value: *const FlowValue) -> u32 {
    // SAFETY: the verifier makes sure that what is not null can be read.
    let (Some(key), value) = (unsafe { (key.as_ref(), value.as_ref()) }) else {
        return Stored::Refused as u32;
    };
    match flow_table::attempt(&Flows { now: MAPS.flow_time() }, key, value) {
        Some(stored) => stored as u32,
        None => FASTER,
    }
}

/// Another writer was faster.
const FASTER: u32 = 3;

/// Where a flow lies that is not at home. Global as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_displaced(key: *const FlowKey) -> u32 {
    // SAFETY: as above.
    match unsafe { key.as_ref() } {
        Some(key) => flow_table::displaced(&Flows { now: 0 }, key),
        None => flow_table::NOWHERE,
    }
}

/// How many places flows of an end have. Global as above: the verifier would else look at every
/// place once for each.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_places(first: u32, second: u32, end: u64, rest: u64) -> u32 {
    flow_table::places(&Flows { now: 0 }, [first, second], [end, rest])
}

/// [`bulkhead_engine::admit`] for what is enforced; `direction` is its index. Global as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_admit(meta: *mut Metadata, direction: u32, rule: u32, limit: u32) -> u32 {
    // SAFETY: as above; the metadata is this CPU's own.
    if let Some(meta) = unsafe { meta.as_mut() } {
        bulkhead_engine::admit(&MAPS, meta, Direction::of_index(direction), (rule, limit as u16));
    }
    0
}

/// [`bulkhead_engine::reply`], likewise.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_reply(meta: *mut Metadata, direction: u32) -> u32 {
    // SAFETY: as above.
    if let Some(meta) = unsafe { meta.as_mut() } {
        bulkhead_engine::reply(&MAPS, meta, Direction::of_index(direction));
    }
    0
}

macro_rules! look_up_either {
    ($view:ident, $name:ident) => {
        /// [`bulkhead_engine::look_up_either`]. Global as above.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(meta: *mut Metadata, direction: u32) -> u32 {
            // SAFETY: as above.
            if let Some(meta) = unsafe { meta.as_mut() } {
                bulkhead_engine::look_up_either(&$view, meta, Direction::of_index(direction));
            }
            0
        }
    };
}

look_up_either!(MAPS, flow_either);
look_up_either!(STAGED, staged_flow_either);

/// Copies a flow, see [`flow_table::get`]. Whether it is expired is the caller's question.
#[inline(always)]
pub(crate) fn get(key: &FlowKey, flow: &mut FlowValue, seen: impl FnOnce(&FlowValue) -> Option<u64>) -> bool {
    flow_table::get(&Flows { now: 0 }, key, flow, seen)
}

/// Whether a flow is over now.
#[inline(always)]
pub(crate) fn is_over(flow: &FlowValue) -> bool {
    Flows { now: MAPS.flow_time() }.is_expired(flow.state, flow.last_seen)
}

/// Stores a flow; one that was pushed out for it is counted.
#[inline(always)]
pub(crate) fn put(key: &FlowKey, value: &FlowValue) -> Stored {
    let stored = store(key, value);
    if stored == Stored::Evicted
        && let Some(evicted) = EVICTED.get_ptr_mut(0)
    {
        // SAFETY: this CPU's own element.
        unsafe { nesting::add(evicted, 1) };
    }
    stored
}

/// Removes a flow. One that is gone already is what was wanted.
#[inline(always)]
pub(crate) fn remove(key: &FlowKey) {
    store(key, core::ptr::null());
}

#[inline(always)]
fn store(key: &FlowKey, value: *const FlowValue) -> Stored {
    flow_table::put(|| match flow_put(key, value) {
        done if done == Stored::Done as u32 => Some(Stored::Done),
        evicted if evicted == Stored::Evicted as u32 => Some(Stored::Evicted),
        FASTER => None,
        _ => Some(Stored::Refused),
    })
}

/// [`bulkhead_engine::admit`] for what is enforced.
#[inline(always)]
pub(crate) fn admit(meta: &mut Metadata, direction: Direction, rule: u32, limit: u16) {
    // What a null pointer, which this is not, would leave: no pass.
    meta.outcome = Metadata::UNKNOWN.outcome;
    flow_admit(meta, direction.index(), rule, u32::from(limit));
}

/// [`bulkhead_engine::look_up_either`].
#[inline(always)]
pub(crate) fn look_up_either<const OBSERVING: bool>(meta: &mut Metadata, direction: Direction) {
    let call = if OBSERVING { staged_flow_either } else { flow_either };
    call(meta, direction.index());
}

/// [`bulkhead_engine::reply`] for what is enforced.
#[inline(always)]
pub(crate) fn reply(meta: &mut Metadata, direction: Direction) {
    meta.outcome = Metadata::UNKNOWN.outcome;
    flow_reply(meta, direction.index());
}
