//! The maps, and the engine's environment over them.

use aya_ebpf::bindings::{BPF_ANY, BPF_F_MMAPABLE};
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_ktime_get_coarse_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use bulkhead_engine::layout::{
    Address, AggregateKey, AggregateValue, BLOCK_SLOTS, Cell, Counter, DIRECTIONS, Direction, FEATURE_AUDIT,
    FEATURE_FIXED_CLOCK, FEATURE_IPV6_LPM, FlowKey, FlowValue, FragmentKey, FragmentValue,
    INTERFACE_ETHERNET, Leaf, PORT_BLOCKS, Pair,
};
use bulkhead_engine::{Case, Environment, FlowTable, REASONS, Reason};

use crate::settings;

// Tables of one generation. The loader sets their sizes.
#[map]
static TRIE4: Array<[u32; BLOCK_SLOTS]> = Array::with_max_entries(256, BPF_F_MMAPABLE);
#[map]
static EXACT6: HashMap<Address, u32> = HashMap::with_max_entries(1, 0);
#[map]
static PREFIX6: LpmTrie<Address, u32> = LpmTrie::with_max_entries(1, 0);
#[map]
static PORTS: Array<[u16; BLOCK_SLOTS]> = Array::with_max_entries(PORT_BLOCKS, BPF_F_MMAPABLE);
#[map]
static PAIRS: Array<[u32; BLOCK_SLOTS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static CELLS: Array<Cell> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static DEADLINES: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(crate) static RULE_COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(1, 0);

// State that outlives generations.
#[map]
static UNREPLIED: LruHashMap<FlowKey, FlowValue> = LruHashMap::with_max_entries(1, 0);
#[map]
static ESTABLISHED: LruHashMap<FlowKey, FlowValue> = LruHashMap::with_max_entries(1, 0);
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue> = LruHashMap::with_max_entries(4096, 0);
#[map]
pub(crate) static REASON_COUNTERS: PerCpuArray<Counter> =
    PerCpuArray::with_max_entries(DIRECTIONS * REASONS, 0);
#[map]
pub(crate) static AGGREGATES_0: HashMap<AggregateKey, AggregateValue> = HashMap::with_max_entries(1, 0);
#[map]
pub(crate) static AGGREGATES_1: HashMap<AggregateKey, AggregateValue> = HashMap::with_max_entries(1, 0);
/// One entry, whose lowest bit names the table of aggregates in use. Userspace empties the other.
#[map]
pub(crate) static AGGREGATE_EPOCH: Array<u32> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);
/// One entry: drops that neither an event nor an aggregate tells of.
#[map]
pub(crate) static LOST_EVENTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// One entry: ns that the fixed clock of tests has gone on since it was set. Other programs
/// do not look here: the verifier removes it.
#[map]
static CLOCK: Array<u64> = Array::with_max_entries(1, 0);

/// Where a packet's case is worked on, for each CPU and direction. Programs of one direction
/// do not interrupt each other on a CPU. Its contents the verifier does not follow, which
/// keeps the ways through parser, decision and report from multiplying.
#[map]
static CASES: PerCpuArray<Case> = PerCpuArray::with_max_entries(DIRECTIONS, 0);

/// This CPU's case for a packet.
#[inline(always)]
pub(crate) fn case(direction: Direction) -> Option<&'static mut Case> {
    // SAFETY: this CPU's own element, used by one program at a time. All zeros is a valid case.
    CASES.get_ptr_mut(direction.index()).map(|case| unsafe { &mut *case })
}

/// The clock of tests.
#[inline(always)]
fn fixed_clock() -> u64 {
    settings::fixed_clock() + CLOCK.get(0).copied().unwrap_or(0)
}

/// The engine's environment over the maps.
pub(crate) struct Maps;

impl Maps {
    #[inline(always)]
    fn flows(table: FlowTable) -> &'static LruHashMap<FlowKey, FlowValue> {
        match table {
            FlowTable::Unreplied => &UNREPLIED,
            FlowTable::Established => &ESTABLISHED,
        }
    }
}

impl Environment for Maps {
    #[inline(always)]
    fn trie(&self, block: u32, slot: u8) -> Option<Leaf> {
        TRIE4.get(block).map(|entries| Leaf(entries[usize::from(slot)]))
    }
    #[inline(always)]
    fn exact6(&self, address: &Address) -> Option<Leaf> {
        // SAFETY: the value is one aligned word, written whole; elements of a generation's
        // tables are not reused while its program runs.
        unsafe { EXACT6.get(address) }.map(|leaf| Leaf(*leaf))
    }
    #[inline(always)]
    fn prefix6(&self, address: &Address) -> Option<Leaf> {
        PREFIX6.get(Key::new(128, *address)).map(|leaf| Leaf(*leaf))
    }
    #[inline(always)]
    fn pair(&self, index: u32) -> Option<Pair> {
        PAIRS.get(index >> 8).map(|entries| Pair(entries[index as usize % BLOCK_SLOTS]))
    }
    #[inline(always)]
    fn port_class(&self, index: u32) -> Option<u32> {
        PORTS.get(index >> 8).map(|entries| u32::from(entries[index as usize % BLOCK_SLOTS]))
    }
    #[inline(always)]
    fn cell(&self, index: u32) -> Option<Cell> {
        CELLS.get(index).copied()
    }
    #[inline(always)]
    fn deadline(&self, index: u32) -> Option<u64> {
        DEADLINES.get(index).copied()
    }

    #[inline(always)]
    fn flow_time(&self) -> u64 {
        if settings::features() & FEATURE_FIXED_CLOCK != 0 {
            return fixed_clock();
        }
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_ktime_get_coarse_ns() }
    }
    #[inline(always)]
    fn boot_time(&self) -> u64 {
        if settings::features() & FEATURE_FIXED_CLOCK != 0 {
            return fixed_clock();
        }
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_ktime_get_boot_ns() }
    }

    #[inline(always)]
    fn ethernet(&self) -> bool {
        settings::interface() == INTERFACE_ETHERNET
    }
    #[inline(always)]
    fn audit(&self) -> bool {
        settings::features() & FEATURE_AUDIT != 0
    }
    #[inline(always)]
    fn has_prefix6(&self) -> bool {
        settings::features() & FEATURE_IPV6_LPM != 0
    }
    #[inline(always)]
    fn locals(&self) -> u32 {
        settings::locals()
    }
    #[inline(always)]
    fn remotes(&self) -> u32 {
        settings::remotes()
    }
    #[inline(always)]
    fn zone(&self) -> u16 {
        settings::zone()
    }
    #[inline(always)]
    fn generation(&self) -> u32 {
        settings::generation()
    }
    #[inline(always)]
    fn timeout(&self, state: u8) -> u16 {
        settings::timeout(state)
    }

    #[inline(always)]
    fn flow(&self, table: FlowTable, key: &FlowKey, flow: &mut FlowValue) -> bool {
        // SAFETY: copied at once. An LRU map may reuse the element meanwhile: a torn copy can
        // only be of another tracked flow's times and state, and the key was matched before.
        match unsafe { Self::flows(table).get(key) } {
            Some(found) => {
                *flow = *found;
                true
            }
            None => false,
        }
    }
    #[inline(always)]
    fn touch_flow(&self, table: FlowTable, key: &FlowKey, now: u64) {
        if let Some(flow) = Self::flows(table).get_ptr_mut(key) {
            // SAFETY: one aligned word; at worst it freshens a flow that took the element over.
            unsafe { core::ptr::addr_of_mut!((*flow).last_seen).write_volatile(now) };
        }
    }
    #[inline(always)]
    fn put_flow(&self, table: FlowTable, key: &FlowKey, value: &FlowValue) -> Result<(), Reason> {
        Self::flows(table).insert(key, value, u64::from(BPF_ANY)).map_err(|_| Reason::FlowTableFull)
    }
    #[inline(always)]
    fn remove_flow(&self, table: FlowTable, key: &FlowKey) {
        // A flow that is gone already is what was wanted.
        let _ = Self::flows(table).remove(key);
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey, value: &mut FragmentValue) -> bool {
        // SAFETY: as for flows.
        match unsafe { FRAGMENTS.get(key) } {
            Some(found) => {
                *value = *found;
                true
            }
            None => false,
        }
    }
    #[inline(always)]
    fn put_fragment(&self, key: &FragmentKey, value: &FragmentValue) -> Result<(), Reason> {
        FRAGMENTS.insert(key, value, u64::from(BPF_ANY)).map_err(|_| Reason::FragmentTableFull)
    }
    #[inline(always)]
    fn remove_fragment(&self, key: &FragmentKey) {
        let _ = FRAGMENTS.remove(key);
    }
}
