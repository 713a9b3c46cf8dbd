//! The kernel's side of the packet tests: one generation that is attached to nothing, run by
//! BPF_PROG_TEST_RUN, with everything that it leaves behind open to look at.
#![allow(dead_code, reason = "each test uses a part")]

pub mod ledger;
mod lost;
mod places;
mod sender;
pub mod sys;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aya::Pod;
use aya::maps::{HashMap, MapData, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions};
use bulkhead_abi::{
    AggregateKey, AggregateValue, AnswerRequest, Counter, DIRECTIONS, Direction, Event, FEATURE_AUDIT,
    FEATURE_FIXED_CLOCK, FlowRecord, INTERFACE_BARE_IP, INTERFACE_ETHERNET, REASONS, Rate, Settings,
    TIMEOUTS, Timeouts,
};
use bulkhead_dataplane::{
    Capacity, Generation, Hook, Kind, Pins, Specialisation, Specification, check_support,
};
use bulkhead_engine::memory::{Memory, Tables};
use bulkhead_engine::{Action, FastPath, Metadata, Outcome, Packet, Reason, fast_path};

pub use sender::own_sender;

/// The smallest packet that BPF_PROG_TEST_RUN takes: what it holds for an Ethernet header.
pub const SHORTEST: usize = 14;
/// The longest: a page less head- and tailroom, rounded down.
pub const LONGEST: usize = 3000;
/// The interface that programs see under test: the loopback device.
pub const INTERFACE: u32 = 1;
/// The number of the generation under test.
pub const GENERATION: u32 = 7;
/// The zone of the interface under test.
pub const ZONE: u16 = 3;
/// FastPath ones, all different, so that a wrong one shows.
pub const SHORT_TIMEOUTS: Timeouts = {
    let mut timeouts = [0; TIMEOUTS];
    let mut state = 0;
    while state < TIMEOUTS {
        timeouts[state] = 4 + 3 * state as u32;
        state += 1;
    }
    Timeouts(timeouts)
};

/// One of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    XdpIngress,
    TcIngress,
    TcEgress,
}

impl Program {
    pub const ALL: [Self; 3] = [Self::XdpIngress, Self::TcIngress, Self::TcEgress];

    pub fn direction(self) -> Direction {
        match self {
            Self::XdpIngress | Self::TcIngress => Direction::Ingress,
            Self::TcEgress => Direction::Egress,
        }
    }

    /// Whether BPF_PROG_TEST_RUN takes a packet for this program. It gives a classifier no IP
    /// packet without a whole fixed header, told by where the EtherType of a frame is.
    pub fn takes(self, packet: &[u8]) -> bool {
        let shortest = match (self, packet.get(12..14)) {
            (Self::TcIngress | Self::TcEgress, Some([0x08, 0x00])) => 14 + 20,
            (Self::TcIngress | Self::TcEgress, Some([0x86, 0xdd])) => 14 + 40,
            _ => SHORTEST,
        };
        (shortest..=LONGEST).contains(&packet.len())
    }
}

/// Keeps this thread on one CPU, whose number it returns: per-CPU maps are read there, and
/// packets follow each other without migration.
pub fn stay_on_this_cpu() -> usize {
    let cpu = rustix::thread::sched_getcpu();
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).expect("pinning the thread to its CPU");
    cpu
}

/// Sizes that nothing in a test exceeds.
pub fn ample() -> Capacity {
    Capacity { flows: 65_536, aggregates: 16_384, event_bytes: 1 << 20, ..Capacity::default() }
}

/// Pins that are gone when the test is, however it ends.
pub struct Pinned(pub Pins, PathBuf);

impl Pinned {
    /// Pins in a directory of the test's own.
    pub fn new(label: &str) -> Self {
        let base = PathBuf::from("/sys/fs/bpf/bulkhead-tests");
        check_support(Path::new("/sys/fs/bpf"), false).expect("root and bpffs");
        let pins = Pins::new(&base, &format!("{label}-{}", std::process::id()));
        pins.create().expect("pins");
        Self(pins, base)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.0.remove_all();
        // Another test's pins may be beside them.
        let _ = std::fs::remove_dir(&self.1);
    }
}

/// What a generation under test is made of.
pub fn specification(tables: &Tables, capacity: Capacity) -> Specification<'_> {
    Specification { capacity, fixed_clock: Some(0), ..Specification::new(GENERATION, tables, SHORT_TIMEOUTS) }
}

/// The engine's environment for it, on the host.
pub fn environment(tables: &Tables, kind: Kind) -> Memory<'_> {
    let interface = match kind {
        Kind::Ethernet => INTERFACE_ETHERNET,
        Kind::BareIp => INTERFACE_BARE_IP,
    };
    let settings = Settings {
        fixed_clock: 0,
        generation: GENERATION,
        features: tables.features() | FEATURE_FIXED_CLOCK,
        locals: tables.locals,
        remotes: tables.remotes,
        timeouts: SHORT_TIMEOUTS,
        zone: ZONE,
        interface,
        ..Settings::UNSET
    };
    let memory = Memory::new(tables, settings);
    memory.sender.replace(own_sender());
    memory
}

/// A generation under test.
pub struct Kernel {
    generation: Generation,
    /// Of the interface.
    kind: Kind,
    metadata: OwnedFd,
    reasons: OwnedFd,
    unreported: OwnedFd,
    rules: OwnedFd,
    rule_count: u32,
    pub audit: bool,
    new_flows: Rate,
    timeouts: Timeouts,
    link: u32,
    cpus: usize,
    cpu: usize,
}

impl Kernel {
    /// Builds the generation. The calling thread must stay on its CPU.
    pub fn new(tables: &Tables, kind: Kind, audit: bool, capacity: Capacity) -> Self {
        Self::with(tables, kind, audit, capacity, Rate::default(), 0)
    }

    /// With a rate at which senders may begin flows, and `LINK_` bits.
    pub fn with(
        tables: &Tables,
        kind: Kind,
        audit: bool,
        capacity: Capacity,
        new_flows: Rate,
        link: u32,
    ) -> Self {
        let specification = Specification { audit, new_flows, ..specification(tables, capacity) };
        Self::of(specification, kind, link)
    }

    /// What a specification makes, with a clock that stands still at 0.
    pub fn of(specification: Specification, kind: Kind, link: u32) -> Self {
        Self::of_interface(specification, kind, link, false)
    }

    /// The same, on `lo` or another interface.
    pub fn of_interface(specification: Specification, kind: Kind, link: u32, is_loopback: bool) -> Self {
        let cpu = stay_on_this_cpu();
        let specification = Specification { fixed_clock: Some(0), ..specification };
        let Specification { tables, audit, new_flows, timeouts, .. } = specification;
        let specialisation = Specialisation { link, is_loopback, ..Specialisation::new(kind, ZONE) };
        let generation = Generation::build(&specification, &[(specialisation, Hook::ALL.to_vec())], None)
            .unwrap_or_else(|error| panic!("these tests need root and a kernel with BPF: {error}"));
        let [metadata, reasons, unreported, rules] =
            ["METADATA", "REASON_COUNTERS", "UNREPORTED", "RULE_COUNTERS"]
                .map(|name| own_map(&generation, name));
        let cpus = aya::util::nr_cpus().expect("the number of CPUs");
        Self {
            generation,
            kind,
            metadata,
            reasons,
            unreported,
            rules,
            rule_count: tables.rules,
            audit,
            new_flows,
            timeouts,
            link,
            cpus,
            cpu,
        }
    }

    /// The engine's environment for the same settings, on the host.
    pub fn memory<'a>(&self, tables: &'a Tables) -> Memory<'a> {
        let mut memory = environment(tables, self.kind);
        memory.settings.features |= if self.audit { FEATURE_AUDIT } else { 0 };
        memory.settings.new_flows = self.new_flows;
        memory.settings.link = self.link;
        memory.settings.timeouts = self.timeouts;
        memory
    }

    /// Sets the clock, ns.
    pub fn set_clock(&mut self, now: u64) {
        let map = self.generation.map_mut("CLOCK").expect("a map of the object");
        let mut clock = aya::maps::Array::<_, u64>::try_from(map).expect("an array");
        clock.set(0, now, 0).expect("setting the clock");
    }

    /// What a program must do for a reason: audit mode lets nearly all pass.
    pub fn action(&self, reason: Reason) -> Action {
        if self.audit && !matches!(reason, Reason::Quarantined | Reason::WorkloadSpoofed) {
            Action::Pass
        } else {
            reason.action()
        }
    }

    /// Runs a program on a packet: what becomes of it.
    pub fn run(&mut self, program: Program, packet: &[u8]) -> Action {
        self.run_named(program, ["xdp_ingress", "tc_ingress", "tc_egress"], packet, &mut [])
    }

    /// Runs a program on a packet that came in by the interface of an index; 0: it is of this host.
    pub fn run_forwarded(&mut self, program: Program, packet: &[u8], from: u32) -> Action {
        // `ingress_ifindex` of `struct __sk_buff` (linux/bpf.h).
        const AT: usize = 36;
        let mut context = [0; 192];
        context[AT..AT + 4].copy_from_slice(&from.to_ne_bytes());
        let context = (from != 0).then_some(&context[..]);
        self.run_in(program, ["xdp_ingress", "tc_ingress", "tc_egress"], packet, &mut [], context)
    }

    /// Runs a program on a packet: what leaves of it, which must pass.
    pub fn sent(&mut self, program: Program, packet: &[u8]) -> Vec<u8> {
        let mut sent = vec![0; packet.len()];
        let action = self.run_named(program, ["xdp_ingress", "tc_ingress", "tc_egress"], packet, &mut sent);
        assert_eq!(action, Action::Pass);
        sent
    }

    /// Runs the one that observes, which goes on with it.
    pub fn observe(&mut self, program: Program, packet: &[u8]) -> Action {
        self.run_named(program, ["xdp_observe", "tc_observe_in", "tc_observe_out"], packet, &mut [])
    }

    fn run_named(&mut self, program: Program, names: [&str; 3], packet: &[u8], sent: &mut [u8]) -> Action {
        self.run_in(program, names, packet, sent, None)
    }

    fn run_in(
        &mut self,
        program: Program,
        names: [&str; 3],
        packet: &[u8],
        sent: &mut [u8],
        ctx_in: Option<&[u8]>,
    ) -> Action {
        const XDP_DROP: u32 = 1;
        const XDP_PASS: u32 = 2;
        const TC_SHOT: u32 = 2;
        const TCX_NEXT: u32 = u32::MAX;
        let data_out = Some(sent).filter(|sent| !sent.is_empty());
        let options = TestRunOptions { data_in: Some(packet), data_out, ctx_in, ..TestRunOptions::default() };
        let [xdp, ingress, egress] = names;
        let group = self.generation.only_group().expect("the programs");
        let result = match program {
            Program::XdpIngress => group.xdp(xdp).expect("XDP").test_run(options),
            Program::TcIngress => group.classifier(ingress).expect("TC").test_run(options),
            Program::TcEgress => group.classifier(egress).expect("TC").test_run(options),
        };
        let value = result.unwrap_or_else(|error| panic!("{program:?}, {} bytes: {error}", packet.len()));
        match (program, value.return_value) {
            (Program::XdpIngress, XDP_PASS) => Action::Pass,
            (Program::XdpIngress, XDP_DROP) => Action::Drop,
            (Program::TcIngress | Program::TcEgress, TCX_NEXT) => Action::Pass,
            (Program::TcIngress | Program::TcEgress, TC_SHOT) => Action::Drop,
            (_, other) => panic!("{program:?} returned {other}"),
        }
    }

    /// What the last packet of a direction was made of and why it was decided so, if it was decided
    /// through metadata: see [`settled`].
    pub fn meta(&self, direction: Direction) -> Metadata {
        self.metadata_at(direction.index())
    }

    /// The counters of this CPU by direction and reason: index `direction × REASONS + reason`.
    pub fn reasons(&self) -> Vec<Counter> {
        let sums = self.every_reason(&self.reasons).zip(self.every_reason(&self.unreported));
        sums.map(|(a, b)| Counter { packets: a.packets + b.packets, bytes: a.bytes + b.bytes }).collect()
    }

    fn every_reason<'a>(&'a self, map: &'a OwnedFd) -> impl Iterator<Item = Counter> + 'a {
        (0..DIRECTIONS * REASONS).map(move |index| self.own_value(map, index))
    }

    /// The counters of this CPU by rule.
    pub fn rules(&self) -> Vec<Counter> {
        (0..self.rule_count).map(|index| self.own_value(&self.rules, index)).collect()
    }

    /// This CPU's value in a per-CPU array.
    fn own_value<T: sys::Layout>(&self, map: &OwnedFd, index: u32) -> T {
        let stride = size_of::<T>().next_multiple_of(8);
        let mut values = vec![0; stride * self.cpus];
        sys::lookup(map, &index.to_ne_bytes(), &mut values);
        sys::read(&values[stride * self.cpu..][..size_of::<T>()])
    }

    /// Takes the events out of the ring.
    pub fn events(&mut self) -> Vec<Event> {
        self.taken("EVENTS")
    }

    /// Takes out what the agent was asked to answer by a reset.
    pub fn answers(&mut self) -> Vec<AnswerRequest> {
        self.taken("ANSWERS")
    }

    fn taken<T: sys::Layout>(&mut self, ring: &str) -> Vec<T> {
        let map = self.generation.map_mut(ring).expect("a map of the object");
        let mut ring = RingBuf::try_from(map).expect("a ring");
        let mut taken = Vec::new();
        while let Some(item) = ring.next() {
            taken.push(sys::read(&item));
        }
        taken
    }

    /// The aggregates in use.
    pub fn aggregates(&mut self) -> Vec<(AggregateKey, AggregateValue)> {
        let table = self.aggregate_table();
        let entries = table.iter().map(|entry| entry.expect("an aggregate"));
        entries.map(|(key, value)| (sys::read(&key), sys::read(&value))).collect()
    }

    /// Empties the aggregates: the next drop of every kind makes an event again.
    pub fn forget_aggregates(&mut self) {
        clear(self.aggregate_table());
    }

    /// Stores flows as the agent does; how many found no place.
    pub fn import(&mut self, flows: impl IntoIterator<Item = FlowRecord>) -> usize {
        self.generation.importer().expect("the importing program").store(flows).expect("storing flows")
    }

    /// Every flow in the table.
    pub fn flows(&self) -> Vec<FlowRecord> {
        let table = self.generation.flows().expect("the table of flows");
        table.flows().map(|(key, flow)| FlowRecord { key, flow }).collect()
    }

    /// Empties the table of flows.
    pub fn forget_flows(&mut self) {
        self.generation.flows().expect("the table of flows").clear();
    }

    /// Forgets ICMP errors that quoted no flow, as a clock that is set back needs it.
    pub fn forget_icmp_misses(&mut self) {
        let map = self.generation.map_mut("ICMP_MISSES").expect("a map of the object");
        let mut misses = aya::maps::Array::<_, u64>::try_from(map).expect("an array");
        (0..misses.len()).for_each(|word| misses.set(word, 0, 0).expect("forgetting a miss"));
    }

    fn aggregate_table(&mut self) -> HashMap<&mut MapData, AggregateKeyBytes, AggregateBytes> {
        let map = self.generation.map_mut("AGGREGATES_0").expect("a map of the object");
        HashMap::try_from(map).expect("a hash map")
    }
}

/// Another descriptor of a map.
fn own_map(generation: &Generation, name: &str) -> OwnedFd {
    let map = generation.descriptor(name).expect("a map of the generation");
    map.try_clone_to_owned().expect("another descriptor")
}

fn clear<K: Pod, V: Pod>(mut table: HashMap<&mut MapData, K, V>) {
    let keys: Vec<_> = table.keys().map(|key| key.expect("a key")).collect();
    keys.iter().for_each(|key| table.remove(key).expect("removing an entry"));
}

type AggregateKeyBytes = [u8; size_of::<AggregateKey>()];
type AggregateBytes = [u8; size_of::<AggregateValue>()];

/// The verdict on a packet that a program settles without metadata, and the packet's length: one that
/// passes, or that is not reported.
pub fn settled(
    memory: &Memory,
    packet: &[u8],
    direction: Direction,
    is_reported: bool,
) -> Option<(u32, Outcome)> {
    match fast_path(memory, &Packet::new(packet), direction)? {
        FastPath::Verdict(length, outcome, _) if outcome.reason.action() == Action::Pass || !is_reported => {
            Some((length, outcome))
        }
        _ => None,
    }
}

/// A host's metadata before the first packet: as the kernel's, all zeros.
pub fn blank_metadata() -> Metadata {
    sys::read(&[0; size_of::<Metadata>()])
}
