//! The engine's environment over the maps.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_ktime_get_coarse_ns};
use aya_ebpf::maps::lpm_trie::Key;
use bulkhead_abi::{
    Address, Cell, Direction, FEATURE_AUDIT, FEATURE_EXEMPT, FEATURE_FIXED_CLOCK, FEATURE_GROUPS,
    FEATURE_IPV6_LPM, FEATURE_LIMITS, FEATURE_LOOPBACK, FEATURE_REJECT, FEATURE_ROUTES, FEATURE_STAGED,
    FEATURE_TLS, FEATURE_WORKLOADS, FlowKey, FlowValue, FragmentKey, FragmentValue, INTERFACE_ETHERNET, Leaf,
    Pair, Rate, RateLimit, Routed, Word, Workload,
};
use bulkhead_engine::flow_table::Stored;
use bulkhead_engine::host_table::Buckets;
use bulkhead_engine::parse::Headers;
use bulkhead_engine::{
    Answer, Beginning, Calls, End, Environment, Judgement, Metadata, Packet, RateState, Reason, SocketState,
};

use crate::counters::count_beginning;
use crate::maps::{
    CLOCK, FRAGMENTS, ICMP_MISSES, INITIATORS, LIMIT_STATES, LIMITS, PREFIX6, ROUTES, STAGED_PREFIX6,
};
use crate::{answers, calls, flows, settings, sockets, tables};

/// A map's value as a word that CPUs share.
#[inline(always)]
fn word(value: Option<*mut u64>) -> Option<&'static Word> {
    // SAFETY: an aligned word of a map's value, which is accessed as a whole only.
    value.map(|value| unsafe { Word::at(value) })
}

/// The clock of tests.
#[inline(always)]
fn fixed_clock() -> u64 {
    settings::fixed_clock() + CLOCK.get(0).copied().unwrap_or(0)
}

/// The engine's environment over the maps: of the generation that is enforced, or of the one
/// that only observes. That one reads the flows of the other, and writes nothing. Sockets are asked
/// where it is used on a packet.
pub(crate) struct View<const STAGED: bool, H = ()>(pub(crate) H);

/// The enforced generation.
pub(crate) const MAPS: View<false> = View(());
/// The staged one.
pub(crate) const STAGED: View<true> = View(());

impl<const STAGED: bool, H> View<STAGED, H> {
    #[inline(always)]
    fn features() -> u32 {
        if STAGED { settings::staged_features() } else { settings::features() }
    }
}

impl<const STAGED: bool, H: sockets::Hook> Environment for View<STAGED, H> {
    #[inline(always)]
    fn trie(&self, block: u32, slot: u8) -> Option<Leaf> {
        tables::trie::<STAGED>(block, slot)
    }
    #[inline(always)]
    fn host_table(&self) -> &impl Buckets {
        self
    }
    #[inline(always)]
    fn prefix6(&self, address: &Address) -> Option<Leaf> {
        (if STAGED { &STAGED_PREFIX6 } else { &PREFIX6 }).get(Key::new(128, *address)).map(|leaf| Leaf(*leaf))
    }
    #[inline(always)]
    fn pair(&self, index: u32) -> Option<Pair> {
        tables::pair::<STAGED>(index.into()).copied()
    }
    #[inline(always)]
    fn port_class(&self, index: u32) -> Option<u32> {
        tables::port_class::<STAGED>(index)
    }
    #[inline(always)]
    fn cell(&self, index: u32) -> Option<Cell> {
        tables::cell::<STAGED>(index.into()).copied()
    }
    #[inline(always)]
    fn deadline(&self, index: u32) -> Option<u64> {
        tables::deadline::<STAGED>(index.into()).copied()
    }

    #[inline(always)]
    fn limit(&self, index: u32) -> Option<RateLimit> {
        LIMITS.get(index).copied()
    }
    #[inline(always)]
    fn limit_state(&self, index: u32) -> Option<impl RateState> {
        word(LIMIT_STATES.get_ptr_mut(index))
    }
    #[inline(always)]
    fn initiator_state(&self, address: &Address) -> Option<impl RateState> {
        // On the stack: verifiers before 6.6 take no key from what a global function was given.
        let address = &{ *address };
        if let Some(word) = word(INITIATORS.get_ptr_mut(address)) {
            return Some(word);
        }
        // Another CPU may have been faster.
        let _ = INITIATORS.insert(address, &0, u64::from(BPF_NOEXIST));
        word(INITIATORS.get_ptr_mut(address))
    }

    #[inline(always)]
    fn miss_state(&self, index: u32) -> Option<impl RateState> {
        word(ICMP_MISSES.get_ptr_mut(index))
    }
    #[inline(always)]
    fn answer_state(&self, index: u32) -> Option<impl RateState> {
        word(answers::ANSWERED.get_ptr_mut(index))
    }
    #[inline(always)]
    fn routed(&self, address: &Address) -> Routed {
        ROUTES.get(Key::new(128, *address)).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn workload(&self, local: u32) -> Option<Workload> {
        tables::workload::<STAGED>(local.into()).copied()
    }
    #[inline(always)]
    fn ancestor(&self, level: u32) -> u64 {
        self.0.ancestor(level)
    }
    #[inline(always)]
    fn is_by_kernel(&self) -> bool {
        self.0.is_by_kernel()
    }
    #[inline(always)]
    fn is_by_packet_socket(&self) -> bool {
        self.0.is_by_packet_socket()
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
        !STAGED && Self::features() & FEATURE_AUDIT != 0
    }
    #[inline(always)]
    fn has_fast_path(&self) -> bool {
        // What is settled has no metadata that could be logged.
        !STAGED && !cfg!(feature = "log") && Self::features() & (FEATURE_AUDIT | FEATURE_STAGED) == 0
    }
    #[inline(always)]
    fn has_prefix6(&self) -> bool {
        Self::features() & FEATURE_IPV6_LPM != 0
    }
    // Rates are used up by what is enforced only; membership, link protocols and who sends errors are of no policy.
    #[inline(always)]
    fn has_limits(&self) -> bool {
        !STAGED && Self::features() & FEATURE_LIMITS != 0
    }
    #[inline(always)]
    fn has_exemptions(&self) -> bool {
        Self::features() & FEATURE_EXEMPT != 0
    }
    #[inline(always)]
    fn has_rejects(&self) -> bool {
        Self::features() & FEATURE_REJECT != 0
    }
    #[inline(always)]
    fn has_groups(&self) -> bool {
        !STAGED && Self::features() & FEATURE_GROUPS != 0
    }
    #[inline(always)]
    fn has_routes(&self) -> bool {
        Self::features() & FEATURE_ROUTES != 0
    }
    #[inline(always)]
    fn has_workloads(&self) -> bool {
        H::HAS && !STAGED && Self::features() & FEATURE_WORKLOADS != 0
    }
    #[inline(always)]
    fn is_loopback(&self) -> bool {
        H::HAS && settings::features() & FEATURE_LOOPBACK != 0
    }
    #[inline(always)]
    fn judges_errors(&self) -> bool {
        !STAGED
    }
    #[inline(always)]
    fn has_tls(&self) -> bool {
        Self::features() & FEATURE_TLS != 0
    }
    #[inline(always)]
    fn holds_back(&self) -> bool {
        // What is held back comes again: for what is enforced, and not for who looks on.
        !STAGED
    }
    #[inline(always)]
    fn read(&self, _packet: &Packet, offset: u32, count: u32) -> Option<u64> {
        self.0.read(offset, count)
    }
    #[inline(always)]
    fn count_beginning(&self, rule: u32, beginning: Beginning) {
        if !STAGED {
            count_beginning(rule, beginning);
        }
    }
    #[inline(always)]
    fn tells_of_flows(&self) -> bool {
        !STAGED && settings::allowed_budget() != 0
    }
    #[inline(always)]
    fn link(&self) -> u32 {
        if STAGED { 0 } else { settings::link() }
    }
    #[inline(always)]
    fn new_flows(&self) -> Rate {
        let interval = if STAGED { 0 } else { settings::new_flow_interval() };
        Rate { interval, tolerance: settings::new_flow_tolerance() }
    }
    #[inline(always)]
    fn locals(&self) -> u32 {
        if STAGED { settings::staged_locals() } else { settings::locals() }
    }
    #[inline(always)]
    fn remotes(&self) -> u32 {
        if STAGED { settings::staged_remotes() } else { settings::remotes() }
    }
    #[inline(always)]
    fn zone(&self) -> u16 {
        settings::zone()
    }
    #[inline(always)]
    fn generation(&self) -> u32 {
        if STAGED { settings::staged_generation() } else { settings::generation() }
    }
    #[inline(always)]
    fn timeout(&self, state: u8) -> u32 {
        settings::timeout(state)
    }

    #[inline(always)]
    fn socket(&self, version: u8, local: End, remote: End) -> SocketState {
        sockets::state(self.0, version, local, remote)
    }
    #[inline(always)]
    fn answer(&self, headers: &Headers, answer: Answer) {
        answers::ask(self.0, headers, answer);
    }
    #[inline(always)]
    fn outward_ports(&self) -> [u16; 2] {
        settings::outward_ports()
    }
    #[inline(always)]
    fn forwarded_until(&self) -> u32 {
        settings::forwarded_until()
    }

    #[inline(always)]
    fn flow(
        &self,
        key: &FlowKey,
        flow: &mut FlowValue,
        seen: impl FnOnce(&FlowValue) -> Option<u64>,
    ) -> bool {
        flows::get(key, flow, |flow| if STAGED { None } else { seen(flow) })
    }
    #[inline(always)]
    fn put_flow(&self, key: &FlowKey, value: &FlowValue) -> Result<(), Reason> {
        if !STAGED && flows::put(key, value) == Stored::Refused { Err(Reason::FlowTableFull) } else { Ok(()) }
    }
    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) {
        if !STAGED {
            flows::remove(key);
        }
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
        if STAGED {
            return Ok(());
        }
        FRAGMENTS.insert(key, value, u64::from(BPF_ANY)).map_err(|_| Reason::FragmentTableFull)
    }
    #[inline(always)]
    fn remove_fragment(&self, key: &FragmentKey) {
        if !STAGED {
            let _ = FRAGMENTS.remove(key);
        }
    }
}

impl<const STAGED: bool, H: sockets::Hook> Calls for View<STAGED, H> {
    #[inline(always)]
    fn admit(&self, meta: &mut Metadata, direction: Direction, rule: u32, limit: u16) {
        if STAGED {
            bulkhead_engine::admit(self, meta, direction, (rule, limit));
        } else {
            flows::admit(meta, direction, rule, limit);
        }
    }
    #[inline(always)]
    fn reply(&self, meta: &mut Metadata, direction: Direction) {
        if STAGED {
            bulkhead_engine::reply(self, meta, direction);
        } else {
            flows::reply(meta, direction);
        }
    }

    #[inline(always)]
    fn untracked(&self, meta: &mut Metadata, direction: Direction) {
        self.0.untracked::<STAGED>(meta, direction);
    }

    #[inline(always)]
    fn look_up_either(&self, meta: &mut Metadata, direction: Direction) {
        flows::look_up_either::<STAGED>(meta, direction);
    }
    #[inline(always)]
    fn begins(&self, _packet: &Packet, meta: &mut Metadata, direction: Direction, flags: u8) {
        self.0.begins::<STAGED>(meta, direction, flags);
    }
    #[inline(always)]
    fn compare(&self, _packet: &Packet, meta: &mut Metadata) {
        self.0.compare(meta);
    }

    #[inline(always)]
    fn leaf(&self, version: u8, address: &Address) -> Result<Leaf, Reason> {
        calls::leaf::<STAGED>(version, address)
    }
    #[inline(always)]
    fn judge(&self, direction: Direction, classes: [u32; 2], protocol: u8, port: u16) -> Judgement {
        calls::judge::<STAGED>(direction, classes, protocol, port)
    }
    #[inline(always)]
    fn forgotten(&self, headers: &Headers) {
        if !STAGED {
            self.0.forgotten(headers);
        }
    }
    #[inline(always)]
    fn rejected(&self, headers: &Headers, direction: Direction) {
        if !STAGED {
            self.0.rejected(headers, direction);
        }
    }
}
