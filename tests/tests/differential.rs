//! The programs in the kernel against the same engine on the host: packets of a
//! structure-aware generator over random policies, run through both in the same order, with
//! the same clock. Everything is compared: verdict, reason, rule, headers, the flow found,
//! counters, events, aggregates, and what is to be answered.
//!
//! `cargo xtask soak differential` runs 10 million, or `BULKHEAD_PACKETS`; `BULKHEAD_SEED`
//! repeats a failure (the seed is in its message).

mod kernel;

use bulkhead_abi::{ANSWER_REJECTED, Address, AnswerRequest, Direction, FlowKey, Rate, Workload};
use bulkhead_dataplane::{Kind, Specification};
use bulkhead_engine::memory::Memory;
use bulkhead_engine::parse::{Headers, Role, protocol::TCP};
use bulkhead_engine::{Answer, Environment as _, Metadata, Packet, Reason, decide};
use bulkhead_policy::reference::{self, Probe, Verdict};
use bulkhead_testkit::packets::build::hex;
use bulkhead_testkit::packets::{Frame, Generator, World};
use bulkhead_testkit::setting;
use fastrand::Rng;
use kernel::ledger::Ledger;
use kernel::{Kernel, Program, SHORTEST, ZONE, ample, blank_metadata, own_sender, settled, specification};

/// Packets that one generation is given.
const PACKETS_A_WORLD: u64 = 12_500;
/// Packets between two steps of the clock, and two looks at the ring.
const BATCH: u64 = 400;
const MILLISECOND: u64 = 1_000_000;

/// Both sides, and where they are.
struct Pair<'a> {
    kernel: Kernel,
    memory: Memory<'a>,
    /// The host's metadata of each direction; parts of the packet before stay in it, as in the kernel.
    metadata: [Metadata; 2],
    ledger: Ledger,
    /// Drops are reported.
    is_reported: bool,
    /// Packets that were settled without metadata, and those of addresses that no table holds.
    settled: u64,
    settled_unknown: u64,
    /// Packets that met an expired flow which had made room for another one in the kernel.
    made_room: u64,
    /// Segments of no connection that were to be answered.
    forgotten: u64,
    /// What the policy rejects, and was to be answered.
    rejected: u64,
    name: String,
}

/// Whether two differ only by a flow that has expired on the host and made room for another
/// in the kernel, whose table is bounded: without it, the tables' own reason takes its place.
fn differ_by_an_expired_flow(host: &Metadata, kernel: &Metadata) -> bool {
    let without =
        [Reason::NoFlow, Reason::NoRule, Reason::DenyRule, Reason::VenueDefaultDeny, Reason::UnknownAddress];
    let is_gone = host.outcome.reason == Reason::FlowExpired && without.contains(&kernel.outcome.reason);
    let mut forgotten = host.forgetting_expired();
    forgotten.outcome = kernel.outcome;
    host != kernel && forgotten == kernel.forgetting_expired() && (host.outcome == kernel.outcome || is_gone)
}

impl<'a> Pair<'a> {
    fn new(world: &'a World, kind: Kind, audit: bool, name: String) -> Self {
        Self::of(Kernel::new(&world.program.tables, kind, audit, ample()), world, true, name)
    }

    fn of(kernel: Kernel, world: &'a World, is_reported: bool, name: String) -> Self {
        let tables = &world.program.tables;
        let audit = kernel.audit;
        let memory = kernel.memory(tables);
        let ledger = Ledger::new(tables.rules, audit, is_reported);
        let metadata = [blank_metadata(); 2];
        Self {
            kernel,
            memory,
            metadata,
            ledger,
            is_reported,
            settled: 0,
            settled_unknown: 0,
            made_room: 0,
            forgotten: 0,
            rejected: 0,
            name,
        }
    }

    fn set_clock(&mut self, now: u64) {
        self.kernel.set_clock(now);
        self.memory.settings.fixed_clock = now;
    }

    /// Runs a packet through both; returns the reason.
    fn compare(&mut self, program: Program, bytes: &[u8]) -> Reason {
        let direction = program.direction();
        let settled = settled(&self.memory, bytes, direction, self.is_reported);
        let meta = &mut self.metadata[direction.index() as usize];
        let before = *meta;
        decide(&self.memory, &Packet::new(bytes), direction, meta);
        let action = self.kernel.run(program, bytes);
        let found = self.kernel.meta(direction);
        if let Some(settled) = settled {
            // The fast path comes to the same verdict, and leaves nothing behind.
            let decided = std::mem::replace(meta, before);
            let reason = decided.outcome.reason;
            let outcome = (decided.headers.length, decided.outcome);
            assert_eq!(settled, outcome, "{}\npacket {}", self.name, hex(bytes));
            assert_eq!(found, before, "{}, {program:?}: metadata\npacket {}", self.name, hex(bytes));
            assert_eq!(action, self.kernel.action(reason), "{}\npacket {}", self.name, hex(bytes));
            self.settled += 1;
            self.settled_unknown += u64::from(reason == Reason::UnknownAddress);
            self.ledger.enter(&decided, direction);
            return reason;
        }
        self.compare_answers(program, bytes, &found);
        let meta = &self.metadata[direction.index() as usize];
        if differ_by_an_expired_flow(meta, &found) {
            self.made_room += 1;
            self.metadata[direction.index() as usize] = found;
        }
        let meta = &self.metadata[direction.index() as usize];
        let reason = meta.outcome.reason;
        assert!(
            found == *meta && action == self.kernel.action(reason),
            "{}, {program:?}, clock {} ns\npacket {}\nkernel {action:?} {found:#?}\nhost   {meta:#?}",
            self.name,
            self.memory.settings.fixed_clock,
            hex(bytes),
        );
        self.ledger.enter(meta, direction);
        reason
    }
}

impl Pair<'_> {
    /// What is to be answered is the same. Where the kernel has forgotten that the sender began a flow, which has
    /// expired on the host and made room there, the host forgets it, too.
    fn compare_answers(&mut self, program: Program, bytes: &[u8], found: &Metadata) {
        let Headers { source, destination, source_port, destination_port, protocol, role, .. } =
            found.headers;
        let direction = program.direction();
        let in_kernel: Vec<_> = self.kernel.answers().iter().map(asked).collect();
        let is_forgotten = |asked: &(Answer, _)| asked.0 == Answer::Forgotten;
        if self.memory.answers.borrow().is_empty() && in_kernel.iter().any(is_forgotten) {
            assert!(direction == Direction::Ingress && protocol == TCP);
            assert!(matches!(role, Role::Continue | Role::End));
            let began = FlowKey {
                initiator: source,
                responder: destination,
                initiator_port: source_port,
                responder_port: destination_port,
                zone: ZONE,
                protocol,
                direction: direction.index() as u8,
            };
            let flow = self.memory.flows.borrow_mut().remove(&began).expect("a flow that its sender began");
            let silent = self.memory.settings.fixed_clock - flow.last_seen;
            assert!(silent > u64::from(self.memory.timeout(flow.state)) * 1000 * MILLISECOND);
            let meta = &mut self.metadata[direction.index() as usize];
            decide(&self.memory, &Packet::new(bytes), direction, meta);
            self.made_room += 1;
        }
        let forgotten = in_kernel.iter().filter(|asked| is_forgotten(asked)).count();
        self.forgotten += forgotten as u64;
        self.rejected += (in_kernel.len() - forgotten) as u64;
        assert_eq!(self.memory.answers.take(), in_kernel, "{}\npacket {}", self.name, hex(bytes));
    }
}

/// How a packet is to be answered, its source and destination.
fn asked(request: &AnswerRequest) -> (Answer, [(Address, u16); 2]) {
    let answer = match request.kind {
        ANSWER_REJECTED => Answer::Rejected(Direction::of_index(request.direction.into())),
        _ => Answer::Forgotten,
    };
    (answer, [(request.source, request.source_port), (request.destination, request.destination_port)])
}

/// The program that a packet is given to, one of two at ingress; none if the kernel would
/// refuse to run it.
fn program_of(rng: &mut Rng, direction: Direction, packet: &[u8]) -> Option<Program> {
    let mut programs = Program::ALL;
    rng.shuffle(&mut programs);
    programs.into_iter().find(|program| program.direction() == direction && program.takes(packet))
}

/// How often each reason was met, all told.
struct Tally {
    reasons: [u64; bulkhead_abi::REASONS as usize],
    made_room: u64,
    forgotten: u64,
    rejected: u64,
    /// Addresses that lay behind the first bucket of their chain.
    chained: usize,
    settled: u64,
    /// From or to addresses that no table holds.
    settled_unknown: u64,
}

impl Tally {
    fn add(&mut self, reason: Reason) {
        self.reasons[reason as usize] += 1;
    }

    /// Prints the counts. A long enough run must have met what needs a state to be reached.
    fn check(&self) {
        for reason in Reason::ALL {
            println!("{:>9} {}", self.reasons[*reason as usize], reason.name());
        }
        let rare = [
            Reason::Reply,
            Reason::IcmpError,
            Reason::IcmpErrorSource,
            Reason::Fragment,
            Reason::AuditReply,
            Reason::DenyRule,
            Reason::Quarantined,
            Reason::FlowExpired,
            Reason::FlowRevoked,
            Reason::FragmentOverlap,
            Reason::FragmentOrder,
            Reason::WorkloadSpoofed,
        ];
        let packets: u64 = self.reasons.iter().sum();
        println!(
            "{packets} packets ({} settled by the fast path, {} forgotten and {} rejected to be told), no difference but {} expired flows that had made room",
            self.settled, self.forgotten, self.rejected, self.made_room
        );
        if packets >= 100_000 {
            assert_ne!(self.settled, 0, "nothing was settled by the fast path");
            assert_ne!(self.forgotten, 0, "nothing was to be reset");
            assert_ne!(self.rejected, 0, "nothing that was rejected was to be told");
            assert_ne!(self.settled_unknown, 0, "nothing of unknown ones was");
            rare.iter().for_each(|reason| assert_ne!(self.reasons[*reason as usize], 0, "never {reason:?}"));
            assert_ne!(self.chained, 0, "no address behind the first bucket of its chain");
        }
    }
}

#[test]
fn the_kernel_decides_as_the_engine_does() {
    let packets = setting("BULKHEAD_PACKETS", 500_000);
    let first_seed = setting("BULKHEAD_SEED", 1);
    let mut tally = Tally {
        reasons: [0; _],
        made_room: 0,
        forgotten: 0,
        rejected: 0,
        settled: 0,
        settled_unknown: 0,
        chained: 0,
    };
    let mut done = 0;
    for seed in first_seed.. {
        for kind in [Kind::BareIp, Kind::Ethernet] {
            let count = PACKETS_A_WORLD.min(packets - done);
            if count == 0 {
                return tally.check();
            }
            run_world(seed, kind, count, &mut tally);
            done += count;
        }
    }
}

/// How fast senders may begin flows, and the link protocols that pass.
fn limits(rng: &mut Rng, kind: Kind) -> (Rate, u32) {
    let rate = Rate { interval: 30 * MILLISECOND, tolerance: 300 * MILLISECOND };
    let link = if kind == Kind::Ethernet { rng.u32(..1 << 13) & rng.u32(..) } else { 0 };
    (if rng.bool() { rate } else { Rate::default() }, link)
}

fn run_world(seed: u64, kind: Kind, count: u64, tally: &mut Tally) {
    let mut rng = Rng::with_seed(seed);
    let mut world = World::random(&mut rng);
    if rng.bool() {
        tally.chained += world.crowd(&mut rng);
    }
    if rng.u8(..4) == 0 {
        world.quarantine(&mut rng);
    }
    // Each in this process's own cgroup or one above it, in another, or not running.
    let own = own_sender().cgroups;
    world.run_workloads(|_| {
        let level = rng.usize(..own.len());
        match rng.u8(..4) {
            0 => (Workload::NOBODY, 0),
            1 => (own[level] + 1_000_000, level as u32),
            2 => (own[level], level as u32 + 1),
            _ => (own[level], level as u32),
        }
    });
    let audit = rng.u8(..4) == 0;
    let (new_flows, link) = limits(&mut rng, kind);
    let is_reported = rng.u8(..4) != 0;
    let specification = Specification {
        audit,
        new_flows,
        event_budget: if is_reported { u32::MAX } else { 0 },
        ..specification(&world.program.tables, ample())
    };
    let name = format!("BULKHEAD_SEED={seed}, {kind:?}, audit {audit}, reported {is_reported}");
    let mut pair = Pair::of(Kernel::of(specification, kind, link), &world, is_reported, name);
    let mut generator = Generator::new(&world, rng.u64(..), kind == Kind::Ethernet);
    let mut now = 1000 * MILLISECOND;
    for index in 0..count {
        if index % BATCH == 0 {
            // Less than a flow's time is written in, more than some time-outs.
            now += [1, 300, 1000, 2500, 6000, 20_000][rng.usize(..6)] * MILLISECOND;
            pair.set_clock(now);
            pair.ledger.check_events(&mut pair.kernel);
        }
        let (program, bytes) = loop {
            let Frame { direction, bytes } = generator.next_frame();
            if let Some(program) = program_of(&mut rng, direction, &bytes) {
                break (program, bytes);
            }
        };
        tally.add(pair.compare(program, &bytes));
    }
    pair.ledger.check(&mut pair.kernel);
    tally.made_room += pair.made_room;
    tally.forgotten += pair.forgotten;
    tally.rejected += pair.rejected;
    tally.settled += pair.settled;
    tally.settled_unknown += pair.settled_unknown;
}

/// Packets cut at every byte, with their lengths left as they were.
#[test]
fn every_truncation_is_decided_alike() {
    let world = World::random(&mut Rng::with_seed(3));
    for kind in [Kind::BareIp, Kind::Ethernet] {
        let mut pair = Pair::new(&world, kind, false, format!("truncation, {kind:?}"));
        let mut generator = Generator::new(&world, 5, kind == Kind::Ethernet);
        for _ in 0..64 {
            let Frame { direction, bytes } = generator.next_frame();
            for length in SHORTEST..=bytes.len() {
                let cut = &bytes[..length];
                let programs = Program::ALL.into_iter();
                for program in programs.filter(|it| it.direction() == direction && it.takes(cut)) {
                    pair.compare(program, cut);
                }
            }
            pair.ledger.check_events(&mut pair.kernel);
        }
        pair.ledger.check(&mut pair.kernel);
    }
}

/// First packets, without flows: compiled tables and the whole decision = rule by rule.
#[test]
fn first_packets_are_decided_as_the_rules_read() {
    for seed in 0..60 {
        let world = World::random(&mut Rng::with_seed(seed));
        let mut rng = Rng::with_seed(seed);
        for _ in 0..2000 {
            compare_with_reference(&world, &mut rng, seed);
        }
    }
}

fn compare_with_reference(world: &World, rng: &mut Rng, seed: u64) {
    use bulkhead_testkit::packets::build::{Ip, echo, icmp_protocol, sctp, tcp, udp};
    let mut address = || world.addresses[rng.usize(..world.addresses.len())];
    let (source, mut destination) = (address(), address());
    while destination.is_ipv4() != source.is_ipv4() {
        destination = address();
    }
    let port = [22, 80, 443, 8080, 53, 0, 65_535][rng.usize(..7)];
    let ports = (50_000, port);
    let (protocol, payload) = match rng.u8(..5) {
        0 => (6, tcp(ports, 2, &[])),
        1 => (17, udp(ports, &[])),
        2 => (132, sctp(ports, 1, &[0; 16])),
        3 => (icmp_protocol(source.is_ipv4()), echo(source.is_ipv4(), false, 9)),
        _ => (47, vec![0; 4]),
    };
    let packet = Ip::new(source, destination, protocol, payload).bytes();
    let direction = if rng.bool() { Direction::Ingress } else { Direction::Egress };
    let now = [0, 60, 120, 300][rng.usize(..4)] * 1_000 * MILLISECOND;
    let probe = Probe { source, destination, protocol, port };
    let node = world.inventory.node(&world.node).expect("the world's node");
    let wanted = reference::judge(&world.ruleset, &world.inventory, node, direction, &probe, now);
    let environment = bulkhead_policy::evaluate::environment(&world.program.tables, now);
    let mut meta = Metadata::UNKNOWN;
    decide(&environment, &Packet::new(&packet), direction, &mut meta);
    let expected: &[Reason] = match wanted {
        Verdict::Allow(_) => &[Reason::Rule],
        Verdict::Deny(_) => &[Reason::DenyRule, Reason::VenueDefaultDeny],
        // What could be a reply is refused as one.
        Verdict::NoRule => &[Reason::NoRule, Reason::NoFlow],
        // Known to the tables if some rule about other things names it.
        Verdict::Unknown => &[Reason::UnknownAddress, Reason::NoRule, Reason::NoFlow],
        Verdict::NotLocal => &[Reason::NotLocal],
    };
    let rule = world.program.rules.get(meta.outcome.rule as usize).copied();
    assert!(
        expected.contains(&meta.outcome.reason) && rule == wanted.rule(),
        "seed {seed}: {direction:?} {probe:?} at {now}: {wanted:?}, decided {:?}\n{}\n{}",
        meta.outcome,
        world.policy,
        world.inventory_text,
    );
}
