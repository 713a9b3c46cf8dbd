//! Single bits of live maps, each turned over while programs read it: found, or shown to mean nothing.

use std::net::IpAddr;

use bulkhead_abi::Direction;
use bulkhead_engine::memory::Tables;
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::reference::Probe;
use bulkhead_testkit::setting;

use super::memory::Memory;
use super::{compiled, held, live, pin, site};

const MAPS: [&str; 5] = ["TRIE4", "HOST_TABLE", "PORTS", "PAIRS", "CELLS"];

#[test]
fn every_bit_is_found_or_means_nothing() {
    let bits = setting("BULKHEAD_BITS", 200);
    let seed = setting("BULKHEAD_SEED", 1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let site = site("bits", 0);
    let (_, _, program) = compiled(&site);
    let memories = MAPS.map(|map| Memory::open(&pin(&site, map)));
    let addresses: Vec<IpAddr> = ["server", "client", "stranger"]
        .map(|name| site.address(name))
        .into_iter()
        .chain(["198.51.100.7".parse().unwrap(), "2001:db8::1".parse().unwrap()])
        .collect();
    let (mut found, mut meaningless) = (0, 0);
    for number in 0..bits {
        let which = rng.usize(..MAPS.len());
        let (map, memory) = (MAPS[which], &memories[which]);
        let bit = match map {
            // The root is a million bits of one leaf, and ports hundreds of thousands: most flips go to what packets
            // of these hosts meet.
            "TRIE4" if rng.bool() => {
                let IpAddr::V4(v4) = addresses[rng.usize(..4)] else {
                    unreachable!("the first four are IPv4")
                };
                u64::from(v4.to_bits() >> 16) * 32 + rng.u64(..32)
            }
            "PORTS" if rng.bool() => {
                u64::from(*rng.choice(&[8080u16, 8081, 22]).unwrap()) * 16 + rng.u64(..16)
            }
            _ => rng.u64(..memory.bits()),
        };
        memory.flip(bit);
        let (said, code) = live(&site);
        let context = format!("seed {seed}, flip {number}: bit {bit} of {map}: {said}");
        match code {
            Some(1) => {
                let first = &said["differences"][0];
                assert_eq!(first["table"], map, "{context}");
                assert!(first["source"].is_string() && first["found"].is_string(), "{context}");
                found += 1;
            }
            Some(0) => {
                assert_eq!(said["meaningless"], 1, "{context}");
                let held = held(&site, &program.tables);
                assert_eq!(first_difference(&program.tables, &held, &addresses), None, "{context}");
                meaningless += 1;
            }
            _ => panic!("{context}"),
        }
        memory.flip(bit);
    }
    let (said, code) = live(&site);
    assert!(code == Some(0) && said["meaningless"] == 0, "{said}");
    println!("{bits} bits: {found} found, {meaningless} mean nothing");
    assert!(found > bits / 8 && meaningless > 0, "{found} found, {meaningless} mean nothing");
}

/// The first probe that the tables in the kernel answer otherwise.
fn first_difference(expected: &Tables, held: &Tables, addresses: &[IpAddr]) -> Option<(Direction, Probe)> {
    let (should, mut is) = (environment(expected, 0), environment(held, 0));
    is.settings = should.settings;
    let ends = addresses.iter().flat_map(|source| addresses.iter().map(move |to| (*source, *to)));
    for (source, destination) in ends {
        for (protocol, port) in [(6, 8080), (6, 8081), (6, 22), (17, 8080), (132, 8080), (1, 0), (47, 0)] {
            let probe = Probe { source, destination, protocol, port };
            for direction in [Direction::Ingress, Direction::Egress] {
                if evaluate(&should, direction, &probe) != evaluate(&is, direction, &probe) {
                    return Some((direction, probe));
                }
            }
        }
    }
    None
}
