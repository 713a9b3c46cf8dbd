//! Tables that somebody has changed: each changed entry is told of by what it decides, or decides nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use bulkhead_abi::{BLOCK_SLOTS, Direction, Leaf, Pair, Workload};
use bulkhead_engine::host_table::HostTable;
use bulkhead_engine::memory::Tables;
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::held::{Comparison, Whose, compare};
use bulkhead_policy::inventory::{Inventory, Network};
use bulkhead_policy::reference::Probe;
use bulkhead_policy::resolve::Ruleset;
use common::{addresses, inventory_text, load, policy_text};
use proptest::prelude::*;

fn told(ruleset: &Ruleset, inventory: &Inventory, program: &Program, held: &Tables) -> Comparison {
    let title = |rule: u32| program.rules.get(rule as usize).map(|index| ruleset.rules[*index].title());
    let node = inventory.node("n1").unwrap();
    let whose = Whose { inventory, node, network: Network::Overlay, title: &title };
    compare(&program.tables, held, &whose, 1000)
}

/// A policy of one rule for two nodes, and a third that nothing admits.
fn one_rule() -> (Ruleset, Inventory, Program) {
    let policy = r#"{"acls": [
        {"action": "accept", "name": "web", "src": ["tag:a"], "dst": ["tag:b:443"], "proto": "tcp"},
        {"action": "deny", "name": "no ssh", "src": ["tag:c"], "dst": ["tag:b:22"], "proto": "tcp"}],
        "tagOwners": {"tag:a": [], "tag:b": [], "tag:c": []}}"#;
    let inventory = r#"{"nodes": [
        {"name": "n1", "addresses": ["10.0.0.9"], "tags": ["tag:b"]},
        {"name": "n2", "addresses": ["10.0.0.2"], "tags": ["tag:a"]},
        {"name": "n3", "addresses": ["10.0.0.3"], "tags": ["tag:c"]}]}"#;
    let (ruleset, inventory) = load(policy, inventory);
    let program = compile(&ruleset, &inventory, "n1", Limits::default()).unwrap();
    (ruleset, inventory, program)
}

#[test]
fn a_cell_is_named_by_source_destination_and_port() {
    let (ruleset, inventory, program) = one_rule();
    assert_eq!(told(&ruleset, &inventory, &program, &program.tables), Comparison::default());
    let deny = program.tables.cells.iter().position(|cell| cell.action == 2).unwrap();
    let mut held = program.tables.clone();
    held.cells[deny].action = 1;
    let found = told(&ruleset, &inventory, &program, &held);
    let words: Vec<_> = found.differences.iter().map(ToString::to_string).collect();
    let expected = format!(
        "n3 (10.0.0.3) → n1 (10.0.0.9) 22/tcp ingress: deny_rule by no ssh should be; allow by no ssh is (CELLS \
         {deny})"
    );
    assert_eq!(words, [expected]);
}

#[test]
fn every_kind_of_table_is_told_of_in_the_policys_terms() {
    let (ruleset, inventory, program) = one_rule();
    let words = |change: &dyn Fn(&mut Tables)| {
        let mut held = program.tables.clone();
        change(&mut held);
        let found = told(&ruleset, &inventory, &program, &held);
        assert_eq!(found.meaningless, 0, "{found:?}");
        found.differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    // The class of 443/tcp for 8443/tcp too.
    let port = words(&|held| {
        let class = held.ports.as_flattened()[443];
        held.ports.as_flattened_mut()[8443] = class;
    });
    assert!(port.starts_with("n2 (10.0.0.2) → n1 (10.0.0.9) 8443/tcp ingress: no_rule"), "{port}");
    assert!(port.contains("; allow by web is (PORTS 8443)"), "{port}");
    // Who is denied has the row of who is admitted.
    let pair = words(&|held| {
        let pairs = held.pairs.as_flattened_mut();
        let rows: Vec<u32> = pairs.iter().map(|pair| pair.row()).collect();
        let admitted = program.tables.cells.iter().position(|cell| cell.action == 1).unwrap() as u32;
        let row = rows.iter().copied().filter(|row| *row <= admitted).max().unwrap();
        let denied = program.tables.cells.iter().position(|cell| cell.action == 2).unwrap() as u32;
        let other = rows.iter().copied().filter(|row| *row <= denied).max().unwrap();
        let at = rows.iter().position(|row| *row == other).unwrap();
        pairs[at] = Pair::new(row, false);
    });
    assert!(pair.starts_with("n3 (10.0.0.3) → n1 (10.0.0.9) 22/tcp, 443/tcp ingress: deny_rule"), "{pair}");
    // An address takes another's class.
    let host = words(&|held| {
        let leaf = held.hosts.get(&bulkhead_abi::from_ip("10.0.0.2".parse().unwrap())).unwrap();
        held.hosts.set(&bulkhead_abi::from_ip("10.0.0.3".parse().unwrap()), leaf).unwrap();
    });
    let wanted = "n3 (10.0.0.3) → n1 (10.0.0.9) 22/tcp ingress: deny_rule by no ssh should be; no_rule is \
                  (HOST_TABLE 10.0.0.3)";
    assert_eq!(host, wanted);
    // A whole /16 is cut off.
    let trie = words(&|held| {
        let entry = &mut held.trie.as_flattened_mut()[10 << 8];
        *entry = Leaf(Leaf::default().with_quarantine(true).0);
    });
    assert!(trie.contains("quarantined is (TRIE4 2560; 65535 others alike)"), "{trie}");
}

#[test]
fn whose_a_class_is_is_compared_but_not_in_which_cgroup_it_runs() {
    let policy = r#"{"acls": []}"#;
    let inventory = r#"{"nodes": [{"name": "n1", "addresses": ["10.0.0.9"], "routes": ["10.0.9.1/32"], "workloads": [
        {"name": "w", "addresses": ["10.0.9.1"], "match": {"unit": "w.service"}}]}]}"#;
    let (ruleset, inventory) = load(policy, inventory);
    let program = compile(&ruleset, &inventory, "n1", Limits::default()).unwrap();
    let own = program.workloads.each[0].classes[0] as usize;
    let mut held = program.tables.clone();
    held.workloads[own] = Workload { cgroup: 77, level: 2, number: 0 }.without_cgroup();
    assert_eq!(told(&ruleset, &inventory, &program, &held), Comparison::default());
    held.workloads[own] = Workload::NONE;
    let found = told(&ruleset, &inventory, &program, &held);
    let words: Vec<_> = found.differences.iter().map(ToString::to_string).collect();
    assert_eq!(words, [format!("n1/w (10.0.9.1): workload 0 should be; no workload is (WORKLOADS {own})")]);
}

#[test]
fn who_came_in_another_order_is_who_should_be_there() {
    let (ruleset, inventory, program) = one_rule();
    let mut held = program.tables.clone();
    let entries: Vec<_> = held.hosts.iter().collect();
    held.hosts = HostTable::new(entries.into_iter().rev()).unwrap();
    // Room for others, and one that was cut off and released again.
    held.hosts = held.hosts.with_room(100).unwrap().into_owned();
    let address = "10.9.9.9".parse().unwrap();
    for on in [true, false] {
        bulkhead_engine::change::change(&mut held, address, |leaf| leaf.with_quarantine(on)).unwrap();
        let found = told(&ruleset, &inventory, &program, &held);
        assert_eq!(found.is_same(), !on, "{found:?}");
    }
}

/// Flips a bit of one table.
fn flip(tables: &mut Tables, table: usize, at: usize, bit: usize) {
    let word = |words: &mut [u32]| words[at % words.len()] ^= 1 << (bit % 32);
    match table {
        0 => {
            // The root is large and mostly of one leaf: half of the flips go to what lies behind.
            let entries = tables.trie.as_flattened_mut();
            let count = entries.len();
            entries[at % count].0 ^= 1 << (bit % 32);
        }
        1 => {
            let mut buckets = tables.hosts.buckets().to_vec();
            let count = buckets.len();
            let bucket = &mut buckets[at % count];
            match bit % 512 {
                key @ 0..384 => bucket.keys[key / 128][key / 64 % 2] ^= 1 << (key % 64),
                leaf @ 384..480 => bucket.leaves[leaf / 32 % 3] ^= 1 << (leaf % 32),
                more => bucket.more ^= 1 << (more % 32),
            }
            tables.hosts = HostTable::of_buckets(buckets);
        }
        2 => {
            let count = tables.ports.len() * BLOCK_SLOTS;
            tables.ports.as_flattened_mut()[at % count] ^= 1 << (bit % 16);
        }
        3 => {
            let mut words: Vec<u32> = tables.pairs.as_flattened().iter().map(|pair| pair.0).collect();
            word(&mut words);
            for (pair, word) in tables.pairs.as_flattened_mut().iter_mut().zip(words) {
                pair.0 = word;
            }
        }
        4 => {
            let count = tables.cells.len();
            let cell = &mut tables.cells[at % count];
            match bit % 128 {
                bit @ 0..32 => cell.rule ^= 1 << bit,
                bit @ 32..64 => cell.next ^= 1 << (bit - 32),
                bit @ 64..80 => cell.deadline ^= 1 << (bit - 64),
                bit @ 80..96 => cell.limit ^= 1 << (bit - 80),
                bit @ 96..104 => cell.action ^= 1 << (bit - 96),
                bit @ 104..112 => cell.flags ^= 1 << (bit - 104),
                bit => cell.reserved[(bit - 112) / 8] ^= 1 << (bit % 8),
            }
        }
        5 => {
            let count = tables.deadlines.len();
            tables.deadlines[at % count] ^= 1 << (bit % 64);
        }
        _ => {
            let count = tables.prefixes6.len();
            if count != 0 {
                tables.prefixes6[at % count].1.0 ^= 1 << (bit % 30);
            }
        }
    }
}

/// The first probe that tables answer otherwise.
fn first_difference(expected: &Tables, held: &Tables) -> Option<(Direction, Probe, u64)> {
    let all = addresses();
    let features = environment(expected, 0).settings;
    for now in [0, 120].map(|seconds| seconds * 1_000_000_000) {
        let (should, mut is) = (environment(expected, now), environment(held, now));
        is.settings = bulkhead_abi::Settings { fixed_clock: now, ..features };
        for source in &all {
            for destination in &all {
                for (protocol, port) in [(6, 22), (6, 443), (6, 8080), (17, 80), (132, 443), (1, 0), (47, 0)]
                {
                    let probe = Probe { source: *source, destination: *destination, protocol, port };
                    for direction in [Direction::Ingress, Direction::Egress] {
                        if evaluate(&should, direction, &probe) != evaluate(&is, direction, &probe) {
                            return Some((direction, probe, now));
                        }
                    }
                }
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn what_is_not_told_of_decides_nothing(
        policy in policy_text(),
        inventory in inventory_text(),
        flips in prop::collection::vec((0..7usize, any::<usize>(), any::<usize>()), 8)
    ) {
        let (ruleset, inventory) = load(&policy, &inventory);
        let program = compile(&ruleset, &inventory, "n1", Limits::default()).unwrap();
        for (table, at, bit) in flips {
            let mut held = program.tables.clone();
            flip(&mut held, table, at, bit);
            let is_changed = held != program.tables;
            let found = told(&ruleset, &inventory, &program, &held);
            let is_told = !found.is_same() || found.meaningless != 0 || table == 5;
            prop_assert_eq!(is_changed, is_told && is_changed, "{}: {:?}", table, found);
            if found.is_same() {
                prop_assert_eq!(first_difference(&program.tables, &held), None, "{} {} {}", table, at, bit);
            }
        }
    }
}
