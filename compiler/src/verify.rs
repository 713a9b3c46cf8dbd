//! The tests section: every entry for every source × destination pair.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bits::Bits;
use crate::diagnostic::{Diagnostic, Findings, Related, Severity};
use crate::inventory::Inventory;
use crate::reference::{self, Probe};
use crate::resolve::{Ruleset, SelectorId, Test, TestTarget};
use crate::service::{TCP, UDP};
use crate::sweep::Sweep;

/// How a run of the tests section went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Destinations that were tested.
    pub tested: usize,
    /// Destinations at which a test failed.
    pub failed: usize,
}

/// Addresses that the same selectors hold: two of them, so that a class of several nodes can
/// be tried against itself.
struct Class {
    members: Bits,
    v4: bool,
    addresses: Vec<IpAddr>,
}

/// The space of addresses in classes: all of a class are treated alike by every rule, so one
/// pair of each two classes proves the rest.
struct Space(Vec<Class>);

impl Space {
    fn new(ruleset: &Ruleset) -> Self {
        let mut sweep = Sweep::new(ruleset.selectors.len());
        let selectors = ruleset.selectors.iter().enumerate();
        let pieces4 = sweep.axis(selectors.clone().map(|(index, selector)| (index, &selector.set.v4)));
        let pieces6 = sweep.axis(selectors.map(|(index, selector)| (index, &selector.set.v6)));
        let ends4 = pieces4.iter().map(|piece| {
            let address = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
            (piece.class, address(piece.first), address(piece.last))
        });
        let ends6 = pieces6.iter().map(|piece| {
            let address = |bits| IpAddr::V6(Ipv6Addr::from_bits(bits));
            (piece.class, address(piece.first), address(piece.last))
        });
        let mut classes: HashMap<(u32, bool), (IpAddr, IpAddr)> = HashMap::new();
        for (class, first, last) in ends4.chain(ends6) {
            classes.entry((class, first.is_ipv4())).or_insert((first, last)).1 = last;
        }
        let mut all: Vec<_> = classes.into_iter().collect();
        all.sort_unstable();
        let class = |((class, v4), (first, last)): ((u32, bool), (IpAddr, IpAddr))| Class {
            members: sweep.classes[class as usize].clone(),
            v4,
            addresses: if first == last { vec![first] } else { vec![first, last] },
        };
        Self(all.into_iter().map(class).collect())
    }

    fn of(&self, selector: SelectorId) -> impl Iterator<Item = &Class> {
        self.0.iter().filter(move |class| class.members.contains(selector.0 as usize))
    }
}

/// Runs the tests section at a time (ns since the Unix epoch). Failures go to `findings`,
/// each with a packet that shows it.
pub fn run(ruleset: &Ruleset, inventory: &Inventory, now: u64, findings: &mut Findings) -> Tally {
    let mut tally = Tally::default();
    if ruleset.tests.is_empty() {
        return tally;
    }
    let space = Space::new(ruleset);
    for test in &ruleset.tests {
        for target in &test.targets {
            tally.tested += 1;
            if let Some((probe, decided)) = counterexample(ruleset, inventory, &space, test, target, now) {
                tally.failed += 1;
                findings.push(failure(ruleset, inventory, target, &probe, decided));
            }
        }
    }
    tally
}

/// A packet that the policy treats otherwise than the test wants, and the rule that decides.
fn counterexample(
    ruleset: &Ruleset,
    inventory: &Inventory,
    space: &Space,
    test: &Test,
    target: &TestTarget,
    now: u64,
) -> Option<(Probe, Option<usize>)> {
    let protocols = test.protocol.map_or(vec![TCP, UDP], |protocol| vec![protocol]);
    for from in space.of(test.source) {
        for to in space.of(target.destination).filter(|to| to.v4 == from.v4) {
            let Some((source, destination)) = pair(inventory, from, to) else { continue };
            let probes: Vec<Probe> = protocols
                .iter()
                .map(|protocol| Probe { source, destination, protocol: *protocol, port: target.port })
                .collect();
            // Without a protocol, either TCP or UDP is access.
            let admitted = probes.iter().find(|probe| reference::admitted(ruleset, probe, now));
            if admitted.is_some() != target.admitted {
                let probe = admitted.or(probes.first())?;
                return Some((*probe, reference::first(ruleset, probe, now)));
            }
        }
    }
    None
}

/// Addresses of two classes that are not one node's: a node does not talk to itself.
fn pair(inventory: &Inventory, from: &Class, to: &Class) -> Option<(IpAddr, IpAddr)> {
    let pairs = from.addresses.iter().flat_map(|source| to.addresses.iter().map(move |to| (*source, *to)));
    pairs.into_iter().find(|(source, destination)| {
        let holder = |address: &IpAddr| inventory.holder(*address).map(|node| &node.name);
        source != destination && (holder(source).is_none() || holder(source) != holder(destination))
    })
}

fn failure(
    ruleset: &Ruleset,
    inventory: &Inventory,
    target: &TestTarget,
    probe: &Probe,
    decided: Option<usize>,
) -> Diagnostic {
    let who = |address: IpAddr| match inventory.holder(address) {
        Some(node) => format!("{} ({address})", node.name),
        None => address.to_string(),
    };
    let protocol = crate::service::name_of(probe.protocol);
    let wanted =
        if target.admitted { "must be admitted and is denied" } else { "must be denied and is admitted" };
    let message = format!(
        "test failed: {} to {}:{}/{protocol} {wanted}",
        who(probe.source),
        who(probe.destination),
        probe.port
    );
    let mut diagnostic = Diagnostic::global(Severity::Error, message);
    diagnostic.location = Some(target.location.clone());
    let rule = decided.map(|index| &ruleset.rules[index]);
    match rule.and_then(|rule| rule.location.clone().map(|location| (rule, location))) {
        Some((rule, location)) => {
            diagnostic.related.push(Related { message: format!("{} decides", rule.title()), location });
        }
        None => diagnostic.help = Some("no rule is about it".into()),
    }
    diagnostic
}
