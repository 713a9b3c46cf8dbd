//! The tests section: every entry for every source × destination pair.

use std::net::IpAddr;

use crate::Dialect;
use crate::analysis::address_classes::{Class, Space};
use crate::analysis::reference::{self, Probe};
use crate::frontend::diagnostic::{Diagnostic, Findings, Related, Severity};
use crate::frontend::inventory::Inventory;
use crate::frontend::policy::{Action, FAILED, Section};
use crate::resolve::{Rule, Ruleset, SelectorId, Test, TestTarget};
use crate::service::{ICMP, ICMPV6, Service, TCP, UDP, has_ports};

/// How a run of the tests section went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Destinations that were tested.
    pub tested: usize,
    /// Destinations at which a test failed.
    pub failed: usize,
}

/// What a test found: a packet that shows that it fails, if there is one, and the rule that
/// decides about that packet.
enum Outcome {
    Holds,
    Fails(Probe, Option<usize>),
    /// Tailscale's tests fail if either side is nobody.
    Nobody(SelectorId),
}

/// Runs the tests section at a time (ns since the Unix epoch). Failures go to `findings`,
/// each with a packet that shows it; what fails in sshTests too, which the tally does not count.
pub fn run(ruleset: &Ruleset, inventory: &Inventory, now: u64, findings: &mut Findings) -> Tally {
    let mut tally = Tally::default();
    ruleset.ssh_failures.iter().for_each(|failure| findings.push(failure.clone()));
    if ruleset.tests.is_empty() {
        return tally;
    }
    let space = Space::new(ruleset);
    for test in &ruleset.tests {
        for target in &test.targets {
            tally.tested += 1;
            let judge = Judge { ruleset, space: &space, test, now };
            let outcome = match ruleset.dialect {
                Dialect::Bulkhead => judge.every_pair(inventory, target),
                Dialect::Tailscale => judge.as_tailscale_does(target),
            };
            let failure = match outcome {
                Outcome::Holds => continue,
                Outcome::Fails(probe, decided) => {
                    failure(inventory, target, &probe, decided.map(|index| &judge.rules()[index]))
                }
                Outcome::Nobody(selector) => {
                    let nobody = &ruleset.selector(selector).label;
                    let message = format!("test failed: {nobody} resolved to no IP addresses");
                    Diagnostic {
                        location: Some(target.location.clone()),
                        ..Diagnostic::global(Severity::Error, message)
                    }
                }
            };
            tally.failed += 1;
            findings.push(match ruleset.dialect {
                Dialect::Bulkhead => failure,
                Dialect::Tailscale => {
                    Diagnostic { message: format!("{FAILED}{}", failure.message), ..failure }
                }
            });
        }
    }
    tally
}

/// One test over the classes of addresses.
struct Judge<'a> {
    ruleset: &'a Ruleset,
    space: &'a Space,
    test: &'a Test,
    now: u64,
}

impl Judge<'_> {
    /// The rules that the test is about: of the policy, not those that somebody was granted for a time. What no grant
    /// may open is in no `grantable`, or behind a boundary.
    fn rules(&self) -> &[Rule] {
        let rules = self.test.assumed.map_or(&self.ruleset.rules, |index| &self.ruleset.assumed[index]);
        let granted = rules.iter().position(|rule| rule.section == Section::Granted);
        &rules[..granted.unwrap_or(rules.len())]
    }

    /// The rule that decides, and whether it admits.
    fn decide(&self, probe: &Probe, router: Option<u32>) -> (Option<usize>, bool) {
        let decided = reference::first_of(self.ruleset, self.rules(), probe, router, self.now);
        (decided, decided.is_some_and(|index| self.rules()[index].action == Action::Accept))
    }

    /// Ours: what must be admitted is so for every pair, and what must be denied for none.
    fn every_pair(&self, inventory: &Inventory, target: &TestTarget) -> Outcome {
        let protocols = self.test.protocol.map_or(vec![TCP, UDP], |protocol| vec![protocol]);
        for from in self.space.of(self.test.source) {
            for to in self.space.of(target.destination).filter(|to| to.v4 == from.v4) {
                let Some((source, destination)) = pair(inventory, from, to) else { continue };
                let probe = |protocol| Probe { source, destination, protocol, port: target.port };
                let mut probes = protocols.iter().map(|protocol| probe(*protocol));
                // Without a protocol, either TCP or UDP is access.
                let admitted = probes.find(|probe| self.decide(probe, None).1);
                if admitted.is_some() != target.admitted {
                    let probe = admitted.unwrap_or_else(|| probe(protocols[0]));
                    return Outcome::Fails(probe, self.decide(&probe, None).0);
                }
            }
        }
        Outcome::Holds
    }

    /// Tailscale's: access is that every source address reaches some destination address, over
    /// any of the protocols of a rule without one.
    fn as_tailscale_does(&self, target: &TestTarget) -> Outcome {
        let protocols = self.test.protocol.map_or(vec![TCP, UDP, ICMP, ICMPV6], |protocol| vec![protocol]);
        for side in [self.test.source, target.destination] {
            if self.space.of(side).next().is_none() {
                return Outcome::Nobody(side);
            }
        }
        let mut reaching = None;
        for from in self.space.of(self.test.source) {
            let source = from.addresses[0];
            let probes = self.space.of(target.destination).flat_map(|to| {
                let destination = to.addresses[0];
                protocols.iter().map(move |protocol| Probe {
                    source,
                    destination,
                    protocol: *protocol,
                    port: target.port,
                })
            });
            let probes: Vec<Probe> = probes.collect();
            // Any pair of addresses counts, of one family or not. What is shown is a packet, if there is one.
            let alike = |probe: &&Probe| probe.source.is_ipv4() == probe.destination.is_ipv4();
            let (packets, others): (Vec<&Probe>, Vec<&Probe>) = probes.iter().partition(alike);
            let mut all = packets.into_iter().chain(others);
            match all.find_map(|probe| Some((*probe, self.grants(probe)?))) {
                Some(found) if reaching.is_none_or(|(shown, _)| !alike(&&shown)) => reaching = Some(found),
                Some(_) => {}
                None if target.admitted => {
                    let shown = probes.iter().find(alike).unwrap_or(&probes[0]);
                    return Outcome::Fails(*shown, None);
                }
                None => return Outcome::Holds,
            }
        }
        match reaching.filter(|_| !target.admitted) {
            Some((probe, rule)) => Outcome::Fails(probe, Some(rule)),
            None => Outcome::Holds,
        }
    }

    /// The rule that admits a probe as Tailscale's tests count: its ports bind ICMP too, unless the
    /// test is about ICMP, which has none. A grant with `via` counts, whichever router carries it.
    fn grants(&self, probe: &Probe) -> Option<usize> {
        let portless = self.test.protocol.is_some_and(|protocol| !has_ports(protocol));
        let service = |service: &Service| {
            service.matches(probe.protocol, probe.port)
                && (portless || service.ported.is_empty() || service.ports.contains(probe.port))
        };
        let admits = |rule: &Rule| {
            rule.action == Action::Accept
                && reference::matches_service(self.ruleset, rule, probe, None, service)
        };
        self.rules().iter().position(admits)
    }
}

/// Addresses of two classes that are not one node's: a node does not talk to itself.
fn pair(inventory: &Inventory, from: &Class, to: &Class) -> Option<(IpAddr, IpAddr)> {
    let pairs = from.addresses.iter().flat_map(|source| to.addresses.iter().map(move |to| (*source, *to)));
    pairs.into_iter().find(|(source, destination)| {
        let holder = |address: &IpAddr| inventory.holder(*address).map(|node| &node.name);
        source != destination && (holder(source).is_none() || holder(source) != holder(destination))
    })
}

fn failure(inventory: &Inventory, target: &TestTarget, probe: &Probe, rule: Option<&Rule>) -> Diagnostic {
    // Of two families, no packet has both addresses.
    let is_packet = probe.source.is_ipv4() == probe.destination.is_ipv4();
    let who = |address: IpAddr| match inventory.holder(address) {
        Some(node) if is_packet => format!("{} ({address})", node.name),
        Some(node) => node.name.clone(),
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
    match rule.and_then(|rule| rule.location.clone().map(|location| (rule, location))) {
        Some((rule, location)) => {
            diagnostic.related.push(Related { message: format!("{} decides", rule.title()), location });
        }
        None => diagnostic.help = Some("no rule is about it".into()),
    }
    diagnostic
}
