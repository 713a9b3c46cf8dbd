//! The maps.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use bulkhead_abi::{
    Address, AggregateKey, AggregateValue, Counter, DIRECTIONS, FragmentKey, FragmentValue, LOSSES, REASONS,
    RateLimit, Routed,
};
use bulkhead_engine::{Budget, MISS_WORDS, Metadata};

// Tables of one generation, beside those in `tables`. The loader sets their sizes.
#[map]
pub(crate) static PREFIX6: LpmTrie<Address, u32> = LpmTrie::with_max_entries(1, 0);
#[map]
pub(crate) static ROUTES: LpmTrie<Address, Routed> = LpmTrie::with_max_entries(1, 0);
/// When the next ICMP error that quotes no flow is due, by a hash of the address that it is about.
#[map]
pub(crate) static ICMP_MISSES: Array<u64> = Array::with_max_entries(MISS_WORDS, 0);
#[map]
pub(crate) static LIMITS: Array<RateLimit> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(crate) static LIMIT_STATES: Array<u64> = Array::with_max_entries(2, 0);
#[map]
pub(crate) static RULE_COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(1, 0);
/// How flows began, by rule and counter: see `tls_index` of `abi`. One entry where no rule asks.
#[map]
pub(crate) static TLS_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// One entry: what this CPU has reported in this period.
#[map]
pub(crate) static BUDGET: PerCpuArray<Budget> = PerCpuArray::with_max_entries(1, 0);

// Of a generation that only observes; one entry where there is none.
#[map]
pub(crate) static STAGED_PREFIX6: LpmTrie<Address, u32> = LpmTrie::with_max_entries(1, 0);
/// Packets that the staged decides otherwise, see `layout::staged_index`.
#[map]
pub(crate) static STAGED_COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(DIRECTIONS * 2, 0);

// State that outlives generations.
#[map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue> = LruHashMap::with_max_entries(4096, 0);
/// When each sender may begin its next flow.
#[map]
pub(crate) static INITIATORS: LruHashMap<Address, u64> = LruHashMap::with_max_entries(65_536, 0);
#[map]
pub(crate) static REASON_COUNTERS: PerCpuArray<Counter> =
    PerCpuArray::with_max_entries(DIRECTIONS * REASONS, 0);
/// The second account: drops that are reported while the second table of aggregates is in use, as the first, above,
/// has those of the other turns. An account of turns that are over stands still, and so can be balanced exactly.
#[map]
pub(crate) static REASON_COUNTERS_1: PerCpuArray<Counter> =
    PerCpuArray::with_max_entries(DIRECTIONS * REASONS, 0);
/// Drops that are not reported, since the CPU's budget for the second was used up or there was no
/// place to decide in: counted here by direction and reason, and not among the others.
#[map]
pub(crate) static UNREPORTED: PerCpuArray<Counter> = PerCpuArray::with_max_entries(DIRECTIONS * REASONS, 0);
#[map]
pub(crate) static AGGREGATES_0: HashMap<AggregateKey, AggregateValue> = HashMap::with_max_entries(1, 0);
#[map]
pub(crate) static AGGREGATES_1: HashMap<AggregateKey, AggregateValue> = HashMap::with_max_entries(1, 0);
/// One entry, whose lowest bit names the table of aggregates in use. Userspace empties the other.
#[map]
pub(crate) static AGGREGATE_EPOCH: Array<u32> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);
/// What neither an event nor an aggregate tells of, by kind of loss.
#[map]
pub(crate) static LOST_EVENTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(LOSSES, 0);

/// One entry: of the second account, the drops that neither tells of.
#[map]
pub(crate) static LOST_EVENTS_1: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// One entry: flows that rules let begin, of which no event tells though one should.
#[map]
pub(crate) static LOST_FLOWS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// One entry: ns that the fixed clock of tests has gone on since it was set. Other programs
/// do not look here: the verifier removes it.
#[map]
pub(crate) static CLOCK: Array<u64> = Array::with_max_entries(1, 0);

/// Where a packet's metadata is worked on, for each CPU and place (see `nesting`), and behind those where
/// the staged works on it. Its contents the verifier does not follow, which keeps the ways through
/// parser, decision and report from multiplying. The loader makes room for as many places as there are.
#[map]
pub(crate) static METADATA: PerCpuArray<Metadata> = PerCpuArray::with_max_entries(2 * DIRECTIONS, 0);
