//! Single bits of live maps, each turned over while programs read it: found, or shown to mean nothing.

use std::net::IpAddr;

use bulkhead_abi::Direction;
use bulkhead_engine::memory::Tables;
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::held::{Comparison, Whose, compare};
use bulkhead_policy::inventory::Network;
use bulkhead_policy::reference::Probe;
use bulkhead_testkit::setting;

use super::memory::Memory;
use super::{compiled, held, live, pin, site};
use crate::site::account::number;

const MAPS: [&str; 5] = ["TRIE4", "HOST_TABLE", "PORTS", "PAIRS", "CELLS"];

#[test]
fn every_bit_is_found_or_means_nothing() {
    let bits = setting("BULKHEAD_BITS", 20);
    let seed = setting("BULKHEAD_SEED", 1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let site = site("bits", 0);
    let (ruleset, inventory, program) = compiled(&site);
    let title = |rule: u32| program.rules.get(rule as usize).map(|index| ruleset.rules[*index].title());
    let node = inventory.node("server").unwrap();
    let whose = Whose { inventory: &inventory, node, network: Network::Overlay, title: &title };
    let memories = MAPS.map(|map| Memory::open(&pin(&site, map)));
    let addresses: Vec<IpAddr> = ["server", "client", "stranger"]
        .map(|name| site.address(name))
        .into_iter()
        .chain(["198.51.100.7".parse().unwrap(), "2001:db8::1".parse().unwrap()])
        .collect();
    let generation = number(&site.status()["agent"]["generation"]) as u32;
    // As the data plane lays them out, with room for whoever is cut off.
    let room = bulkhead_abi::Capacity::default().spare_addresses as usize;
    let hosts = program.tables.hosts.with_room(room).unwrap().into_owned();
    let expected = Tables { hosts, ..program.tables.clone() };
    assert_eq!(compare(&expected, &held(&site, generation, &expected), &whose, 1), Comparison::default());
    let (mut found, mut meaningless) = (0, 0);
    for flip in 0..bits {
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
        let tables = held(&site, generation, &program.tables);
        let compared = compare(&expected, &tables, &whose, 100);
        let context = format!("seed {seed}, flip {flip}: bit {bit} of {map}: {compared:?}");
        if let Some(first) = compared.differences.first() {
            assert!(first.table == map && first.source.is_some(), "{context}");
            found += 1;
            // The command finds the same, and takes longer.
            if found == 1 {
                let (said, code) = live(&site);
                assert_eq!(
                    (code, &said["differences"][0]["found"]),
                    (Some(1), &(&*first.found).into()),
                    "{said}"
                );
            }
        } else {
            assert_eq!((compared.omitted, compared.meaningless), (0, 1), "{context}");
            assert_eq!(first_difference(&expected, &tables, &addresses), None, "{context}");
            meaningless += 1;
        }
        memory.flip(bit);
    }
    let (said, code) = live(&site);
    assert!(code == Some(0) && said["meaningless"] == 0, "{said}");
    println!("{bits} bits: {found} found, {meaningless} mean nothing");
    assert!(found > bits / 8 && meaningless > bits / 8, "{found} found, {meaningless} mean nothing");
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
