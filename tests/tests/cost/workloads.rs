//! What a packet that leaves costs more where there are workloads, and that it costs nothing where there are none.

use std::fmt::Write as _;
use std::os::fd::AsFd as _;

use bulkhead_abi::{TIMEOUTS, Timeouts};
use bulkhead_dataplane::{Capacity, Generation, Hook as Place, Kind, Specialisation, Specification};
use bulkhead_testkit::measure::{Addresses, Hook, nothing};
use bulkhead_testkit::packets::World;
use bulkhead_testkit::packets::build::{Ip, tcp};

use super::{ACK, NETWORK, NODE, drive, medians};

/// So few peers that every look-up is in the nearest cache: what is compared is what the programs do.
const PEERS: u32 = 1000;
const WORKLOAD: [u8; 4] = [10, 0, 9, 1];
/// What a packet may cost more, ns: the least of three medians of many rounds.
const MOST: f64 = 10.0;

fn world(workloads: &str) -> World {
    let mut nodes = format!(
        "{{\"name\": \"node\", \"addresses\": [\"{NODE}\"], \"tags\": [\"tag:own\"], \"routes\": [\"10.0.9.1/32\"]{workloads}}}"
    );
    for index in 0..PEERS {
        let peer = Addresses::dense(NETWORK, PEERS).v4(index);
        let _ = write!(
            nodes,
            ",\n{{\"name\": \"n{index}\", \"addresses\": [\"{peer}\"], \"tags\": [\"tag:peer\"]}}"
        );
    }
    let policy = r#"{"acls": [{"action": "accept", "src": ["tag:own"], "dst": ["tag:peer:8080"]}],
        "tagOwners": {"tag:own": [], "tag:peer": []}}"#;
    World::new(policy.to_owned(), format!("{{\"nodes\": [{nodes}], \"users\": []}}"), "node")
}

fn generation(world: &World) -> Generation {
    let wanted = (Specialisation::new(Kind::BareIp, 0), vec![Place::TcxIngress, Place::TcxEgress]);
    let specification = Specification {
        capacity: Capacity { flows: 4096, ..Capacity::default() },
        ..Specification::new(1, &world.program.tables, Timeouts([3600; TIMEOUTS]))
    };
    Generation::build(&specification, &[wanted], None).expect("root, and BPF")
}

#[test]
fn a_look_at_who_sends_costs_little_and_nothing_where_there_are_no_workloads() {
    let addresses = Addresses::dense(NETWORK, PEERS);
    let workload = r#", "workloads": [{"name": "w", "addresses": ["10.0.9.1"], "tags": ["tag:own"], "match": {"unit": "w.service"}}]"#;
    let mut with = world(workload);
    // The root, which is above every process.
    with.run_workloads(|_| (1, 0));
    let without = world("");
    let mut generations = [&without, &with].map(generation);
    let sizes = generations.each_mut().map(|generation| {
        ["tc_ingress", "tc_egress"].map(|name| {
            let program = generation.only_group().expect("programs").classifier(name).expect("a program");
            program.info().expect("information").size_translated().expect("a size") / 8
        })
    });
    println!("instructions without and with, at ingress and egress: {sizes:?}");
    assert_eq!(sizes[0][0], sizes[1][0], "what comes in is not looked at by who sends it");
    assert!(sizes[0][1] < sizes[1][1], "what is not asked for is not in the program: {sizes:?}");

    let segment = |from: [u8; 4]| {
        Ip::new(from.into(), addresses.v4(0).into(), 6, tcp((50_000, 8080), ACK, &[])).bytes()
    };
    let (host, own) = (segment(NODE.octets()), segment(WORKLOAD));
    let mut driver = |generation: usize, packet: &[u8]| {
        let group = generations[generation].only_group().expect("programs");
        let program = group.classifier("tc_egress").expect("a program");
        drive(program.fd().expect("loaded").as_fd(), addresses, 16, packet)
    };
    let nothing = nothing(Hook::Tc).expect("a program");
    let mut measured = || {
        let programs = [
            (drive(nothing.as_fd(), addresses, 16, &host), &host[..]),
            (driver(0, &host), &host),
            (driver(1, &host), &host),
            (driver(1, &own), &own),
        ];
        let [nothing, without, host, workload] = medians(programs);
        println!(
            "a segment that leaves, less the driver's {nothing:.1} ns: {:.1} ns without workloads, {:.1} ns from the \
             host's address where there are some, {:.1} ns from a workload's",
            without - nothing,
            host - nothing,
            workload - nothing
        );
        (host - without).max(workload - without)
    };
    // A slow moment of the machine meets one of them, not each.
    let least = (0..3).map(|_| measured()).fold(f64::INFINITY, f64::min);
    assert!(least < MOST, "{least} ns more");
}
