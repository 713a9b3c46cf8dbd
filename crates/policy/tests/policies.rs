//! The policies that ship hold: no error, no warning, every test of theirs, no rule in vain.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::path::Path;

use bulkhead_policy::compile::{Limits, compile};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Network};
use bulkhead_policy::proof::{Proofs, prove};
use bulkhead_policy::resolve::resolve;
use bulkhead_policy::source::Source;
use bulkhead_policy::unreachable;
use bulkhead_policy::{Dialect, boundaries, policy, verify};

/// Before the end of whatever expires in them.
const NOW: u64 = 1_780_000_000_000_000_000;

#[test]
fn the_policies_that_ship_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["bank", "payments", "retail-edge", "trading-firm"]);
    for name in names {
        let read = |file: &str| {
            let text = std::fs::read_to_string(folder.join(&name).join(file)).unwrap();
            Source::new(&format!("{name}/{file}"), &text)
        };
        let mut findings = Findings::default();
        let policy = policy::parse(&read("policy.hujson"), Dialect::Bulkhead, &mut findings).unwrap();
        let inventory = inventory::parse(&read("inventory.json"), &mut findings).unwrap();
        let ruleset = resolve(&policy, &inventory, Dialect::Bulkhead, Network::Overlay, &mut findings);
        boundaries::check(&ruleset, &inventory, &mut findings);
        let tally = verify::run(&ruleset, &inventory, NOW, &mut findings);
        let proofs = prove(&ruleset, &inventory, NOW, &mut findings);
        let Proofs { venues, boundaries } = &proofs;
        let expected = match &name[..] {
            "trading-firm" => (1, 0),
            "payments" => (0, 2),
            _ => (0, 0),
        };
        assert_eq!((venues.len(), boundaries.len()), expected, "{name}");
        assert!(venues.iter().chain(boundaries).all(|proof| proof.holds && proof.admitted > 0), "{proofs:?}");
        let reach = unreachable::check(&ruleset, NOW, &mut findings);
        assert!(findings.0.is_empty(), "{findings}");
        assert!(tally.tested >= 20 && tally.failed == 0, "{name}: {tally:?}");
        assert_eq!((reach.unreachable, reach.undecided), (0, 0), "{name}");
        // On exchange interfaces the same lanes hold between the nodes' addresses there.
        let on_exchanges = resolve(&policy, &inventory, Dialect::Bulkhead, Network::Underlay, &mut findings);
        let there = prove(&on_exchanges, &inventory, NOW, &mut findings);
        assert_eq!(&there.venues, venues, "{name}");
        assert!(findings.0.is_empty(), "{findings}");
        for node in inventory.nodes.iter().filter(|node| node.workload.is_none()) {
            compile(&on_exchanges, &inventory, &node.name, Limits::default()).unwrap();
            compile(&ruleset, &inventory, &node.name, Limits::default()).unwrap();
        }
    }
}
