//! What a packet of an established TCP conversation costs, in units of one look-up in an LRU
//! hash of as many flows, measured in the same run.
//!
//! A driver writes a random one of the 131,072 addresses into every packet and goes on with the
//! program under test (see `bulkhead_testkit::measure`): the agent's own, unchanged. The same
//! driver in front of a program that returns at once, or that copies a key of 40 bytes from the
//! packet, tells what to subtract. The look-up's own time is that of copying and looking up less that of copying
//! only; the forward path's is everything that the agent's program does, entry and exit,
//! counting and copying included. Rounds of all programs alternate, and medians are compared,
//! so that a slow moment of the machine meets all of them.
//!
//! The bound of 0.3 is for addresses next to each other (a block of an operator's): 512 leaf
//! blocks of the trie. Scattered over 100.64.0.0/10, as Tailscale gives them out, they need 32
//! times as many, 16 MiB that no cache near the CPU holds: a packet then costs about two misses
//! more, which is printed, and must still be less than one look-up. The reply path, which
//! looks a flow up, has a bound of its own. Nearly every reply here is the first in a second for its flow, and
//! so also writes the flow's time: the dearest case.

mod workloads;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::PerCpuArray;
use aya::programs::{TestRun as _, TestRunOptions};
use bulkhead_abi::{AllowedReports, Direction, REASONS, TIMEOUTS, Timeouts};
use bulkhead_dataplane::{Capacity, Generation, Hook as Place, Kind, Specialisation, Specification};
use bulkhead_engine::{Action, Reason};
use bulkhead_testkit::measure::{
    Addresses, Driver, Hook, KEY, NEXT, Order, Then, Write, bpf, keyed, nothing,
};
use bulkhead_testkit::packets::World;
use bulkhead_testkit::packets::build::{Ip, tcp};

/// The addresses: next to each other, or all over 100.64.0.0/10.
const ADDRESSES: u32 = 1 << 17;
const NETWORK: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
const NETWORK_BITS: u32 = 22;
const ROUNDS: usize = 15;
/// Runs of each program in a round.
const REPEAT: u32 = 200_000;
/// What must be there of the entries of an LRU map: a full one may have evicted a few.
const FULL: f64 = 0.98;
/// Tags of the others, and rules.
const TAGS: u32 = 16;
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PORTS: (u16, u16) = (50_000, 8080);
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

fn to_node(peer: Ipv4Addr, flags: u8) -> Vec<u8> {
    Ip::new(peer.into(), NODE.into(), 6, tcp(PORTS, flags, &[])).bytes()
}

fn by_node(peer: Ipv4Addr, flags: u8) -> Vec<u8> {
    Ip::new(NODE.into(), peer.into(), 6, tcp((PORTS.1, PORTS.0), flags, &[])).bytes()
}

/// A node whom 131,072 others, of 16 tags, may ask.
fn world(addresses: Addresses) -> World {
    let mut nodes =
        format!("{{\"name\": \"node\", \"addresses\": [\"{NODE}\"], \"tags\": [\"tag:server\"]}}");
    for index in 0..ADDRESSES {
        let (peer, tag) = (addresses.v4(index), index % TAGS);
        let _ = write!(
            nodes,
            ",\n{{\"name\": \"n{index}\", \"addresses\": [\"{peer}\"], \"tags\": [\"tag:t{tag}\"]}}"
        );
    }
    let (mut rules, mut owners) = (String::new(), String::from("\"tag:server\": []"));
    for tag in 0..TAGS {
        let _ = write!(
            rules,
            "{{\"action\": \"accept\", \"src\": [\"tag:t{tag}\"], \"dst\": [\"tag:server:{},{}\"]}},",
            PORTS.1,
            9000 + tag
        );
        let _ = write!(owners, ", \"tag:t{tag}\": []");
    }
    let policy = format!("{{\"acls\": [{rules}], \"tagOwners\": {{{owners}}}}}");
    World::new(policy, format!("{{\"nodes\": [{nodes}], \"users\": []}}"), "node")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Opens a conversation with every address through the programs themselves.
fn establish(generation: &mut Generation, addresses: Addresses) {
    // At its nominal capacity the table has no place for one flow in a million.
    let mut refused = 0;
    'peers: for index in 0..ADDRESSES {
        let peer = addresses.v4(index);
        // Completed by a segment of who was asked.
        let packets = [
            ("tc_ingress", to_node(peer, SYN)),
            ("tc_egress", by_node(peer, SYN | ACK)),
            ("tc_egress", by_node(peer, ACK)),
        ];
        for (name, packet) in packets {
            let group = generation.only_group().expect("programs");
            let program = group.classifier(name).expect("a program");
            let options = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::default() };
            let returned = program.test_run(options).expect("a run").return_value as i32;
            if returned != NEXT {
                assert_eq!(dropped(generation), [Reason::FlowTableFull], "{name}, {peer}");
                refused += 1;
                continue 'peers;
            }
        }
    }
    assert!(refused <= 2, "{refused} conversations found no place");
}

/// Reasons of drops so far.
fn dropped(generation: &mut Generation) -> Vec<Reason> {
    let mut has = |name, index| {
        let map = generation.map_mut(name).expect("a map of the object");
        let counters = PerCpuArray::<_, [u64; 2]>::try_from(map).expect("a per-CPU array");
        counters.get(&index, 0).expect("a counter").iter().any(|[packets, _]| *packets != 0)
    };
    let mut has = |index| has("REASON_COUNTERS", index) || has("UNREPORTED", index);
    let reasons = Reason::ALL.iter().copied().filter(|reason| reason.action() == Action::Drop);
    reasons.filter(|reason| (0..2).any(|way| has(way * REASONS + *reason as u32))).collect()
}

/// Packets that passed by a rule, and as replies.
fn passed(generation: &mut Generation) -> [u64; 2] {
    let mut packets = |name, indices: Range<u32>| -> u64 {
        let map = generation.map_mut(name).expect("a map of the object");
        let counters = PerCpuArray::<_, [u64; 2]>::try_from(map).expect("a per-CPU array");
        let values = indices.map(|index| counters.get(&index, 0).expect("a counter"));
        values.map(|cpus| cpus.iter().map(|[packets, _]| packets).sum::<u64>()).sum()
    };
    let reply = Direction::Egress.index() * REASONS + Reason::Reply as u32;
    [packets("RULE_COUNTERS", 0..TAGS), packets("REASON_COUNTERS", reply..reply + 1)]
}

#[test]
fn the_forward_path_and_replies_cost_at_most_so_many_look_ups() {
    let places = [
        ("next to each other", Addresses::dense(NETWORK, ADDRESSES), [0.3, 1.5]),
        ("scattered", Addresses::scattered(NETWORK, NETWORK_BITS, ADDRESSES), [1.0, 2.0]),
    ];
    for (name, addresses, bounds) in places {
        let costs = measure(name, addresses);
        for (path, (cost, bound)) in ["forward path", "reply"].iter().zip(costs.iter().zip(bounds)) {
            assert!(*cost <= bound, "{name}, {path}: {cost:.3} of a look-up, at most {bound} is allowed");
        }
    }
}

/// What is told of a flow as it begins, its first packet alone pays for.
#[test]
fn reports_of_allowed_flows_cost_conversations_that_go_on_nothing() {
    let addresses = Addresses::dense(NETWORK, ADDRESSES);
    let world = world(addresses);
    let kinds = [AllowedReports::NONE, AllowedReports { budget: 1000, one_in: 1 }];
    let mut generations = kinds.map(|allowed| generation(&world, allowed));
    let segment = to_node(addresses.v4(0), ACK);
    let sizes = generations.each_mut().map(|generation| {
        establish(generation, addresses);
        let program = generation.only_group().expect("programs").classifier("tc_ingress").expect("a program");
        program.info().expect("information").size_translated().expect("a size") / 8
    });
    let nothing = nothing(Hook::Tc).expect("a program");
    let drive = |next: &dyn AsFd| drive(next.as_fd(), addresses, 12, &segment);
    let [off, on] = generations.each_mut().map(|generation| {
        let program = generation.only_group().expect("programs").classifier("tc_ingress").expect("a program");
        drive(program.fd().expect("loaded"))
    });
    let [nothing, off, on] = medians([drive(&nothing), off, on].map(|driver| (driver, &segment[..])));
    let ratio = (on - nothing) / (off - nothing);
    println!(
        "forward path with reports of allowed flows: {ratio:.3} of that without; {} instructions, {} without",
        sizes[1], sizes[0]
    );
    assert!(sizes[0] < sizes[1], "what is not asked for is not in the program: {sizes:?}");
    assert!(ratio < 1.15, "{ratio:.3}");
}

/// What each costs with its packet, ns: rounds of all of them alternate.
fn medians<const N: usize>(programs: [(Driver, &[u8]); N]) -> [f64; N] {
    let mut times = programs.each_ref().map(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for ((driver, packet), times) in programs.iter().zip(&mut times) {
            times.push(driver.run(packet, REPEAT).expect("a run").nanoseconds);
        }
    }
    times.map(median)
}

/// The programs of a node, on an interface without Ethernet.
fn generation(world: &World, allowed: AllowedReports) -> Generation {
    let wanted = (Specialisation::new(Kind::BareIp, 0), vec![Place::TcxIngress, Place::TcxEgress]);
    let specification = Specification {
        capacity: Capacity { flows: ADDRESSES, ..Capacity::default() },
        allowed,
        ..Specification::new(1, &world.program.tables, Timeouts([3600; TIMEOUTS]))
    };
    Generation::build(&specification, &[wanted], None).expect("root, and BPF")
}

/// A driver of packets like this one, whose address is at `offset`.
fn drive(next: BorrowedFd, addresses: Addresses, offset: i16, packet: &[u8]) -> Driver {
    let length = KEY as i32;
    let write = Write { addresses, order: Order::Random, offset, length, parts: None, checksum: None };
    Driver::new(Hook::Tc, Then::Program(next), write, packet).expect("a driver")
}

/// The forward path and a reply, in look-ups.
fn measure(name: &str, addresses: Addresses) -> [f64; 2] {
    let world = world(addresses);
    let tables = &world.program.tables;
    let mut generation = generation(&world, AllowedReports::NONE);
    establish(&mut generation, addresses);

    let (segment, reply) = (to_node(addresses.v4(0), ACK), by_node(addresses.v4(0), ACK));
    let flows = bpf::create(bpf::LRU_HASH, KEY, 32, ADDRESSES).expect("root, and BPF");
    let key = |index| to_node(addresses.v4(index), ACK)[..KEY as usize].to_vec();
    (0..ADDRESSES).for_each(|index| bpf::update(&flows, &key(index), &[1; 32]).expect("an element"));
    let held = (0..ADDRESSES).filter(|index| bpf::has(&flows, &key(*index), &mut [0; 32])).count();
    assert!(held as f64 > FULL * f64::from(ADDRESSES), "{held} flows in the look-up's map");
    let nothing = nothing(Hook::Tc).expect("a program");
    let copy = keyed(Hook::Tc, 0, None).expect("a program");
    let look_up = keyed(Hook::Tc, 0, Some(flows)).expect("a program");
    let before = passed(&mut generation);
    let drive = |next: &dyn AsFd, offset| drive(next.as_fd(), addresses, offset, &segment);
    let mut driver = |program: &str, offset| {
        let program = generation.only_group().expect("programs").classifier(program).expect("a program");
        drive(program.fd().expect("loaded"), offset)
    };
    let programs = [
        (drive(&nothing, 12), &segment[..]),
        (drive(&copy, 12), &segment),
        (drive(&look_up, 12), &segment),
        (driver("tc_ingress", 12), &segment),
        (driver("tc_egress", 16), &reply),
    ];
    let [nothing, copy, look_up, forward, reply] = medians(programs);
    let after = passed(&mut generation);
    let runs = ROUNDS as u64 * u64::from(REPEAT);
    assert_eq!(after[0] - before[0], runs, "segments of the forward path that passed by a rule");
    let replies = (after[1] - before[1]) as f64 / runs as f64;
    assert!(replies > FULL, "{replies} of the replies passed");

    let (look_up, forward, reply) = (look_up - copy, forward - nothing, reply - nothing);
    println!(
        "{ADDRESSES} addresses {name}, {} trie blocks: look-up {look_up:.0} ns; forward path {forward:.0} ns, \
         {:.3} of a look-up; reply {reply:.0} ns, {:.2} of a look-up (driver {nothing:.0} ns)",
        tables.trie.len(),
        forward / look_up,
        reply / look_up,
    );
    [forward / look_up, reply / look_up]
}
