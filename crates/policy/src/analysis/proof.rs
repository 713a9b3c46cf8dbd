//! Proofs by enumeration: each venue admits exactly its lanes, nothing crosses a boundary but its
//! exceptions. Classes partition the space, so every packet is accounted for.

use serde::Serialize;

use crate::analysis::address_classes::{Class, Space};
use crate::analysis::boundaries::{excepted, packet, too_much};
use crate::analysis::decide::{Decider, Ports, Sources, Work};
use crate::analysis::reference::Probe;
use crate::bits::Bits;
use crate::frontend::diagnostic::{Diagnostic, Findings, Location, Severity};
use crate::frontend::inventory::Inventory;
use crate::frontend::policy::Action;
use crate::resolve::{Boundary, Rule, Ruleset, SelectorId, Venue};

/// What was proven of one venue or boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Its name.
    pub name: String,
    /// How many lanes or exceptions it has.
    pub lanes: usize,
    /// How many packets that begin a conversation are admitted: combinations of their address, our
    /// address, port or protocol, and direction (of a boundary: of both addresses, port and
    /// direction).
    pub admitted: u128,
    /// Whether it holds. If not, a finding shows a packet, or says that there is too much to search.
    pub holds: bool,
}

/// What was proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Proofs {
    /// Of each venue, that it admits its lanes and nothing else.
    pub venues: Vec<Proof>,
    /// Of each boundary, that nothing crosses it but what its `only` names.
    pub boundaries: Vec<Proof>,
}

/// Proves venues and boundaries at all times from one on (ns since the Unix epoch). What does not
/// hold is an error with a packet that shows it.
pub fn prove(ruleset: &Ruleset, inventory: &Inventory, now: u64, findings: &mut Findings) -> Proofs {
    let mut proofs = Proofs::default();
    if ruleset.venues.is_empty() && ruleset.boundaries.is_empty() {
        return proofs;
    }
    let ports = Ports::new(&[ruleset]);
    let space = Space::new(ruleset);
    let decider = Decider::new(ruleset, &ports, 0);
    let work = Work::new();
    let mut prover =
        Prover { ruleset, inventory, ports: &ports, space: &space, decider, now, work, findings };
    for (index, venue) in (0..).zip(&ruleset.venues) {
        let proof = prover.venue(index, venue);
        proofs.venues.push(proof);
    }
    for boundary in &ruleset.boundaries {
        let proof = prover.boundary(boundary);
        proofs.boundaries.push(proof);
    }
    proofs
}

struct Prover<'a> {
    ruleset: &'a Ruleset,
    inventory: &'a Inventory,
    ports: &'a Ports,
    space: &'a Space,
    decider: Decider<'a>,
    now: u64,
    work: Work,
    findings: &'a mut Findings,
}

impl<'a> Prover<'a> {
    fn is_in(class: &Class, ids: &[SelectorId]) -> bool {
        ids.iter().any(|id| class.members.contains(id.0 as usize))
    }

    fn venue(&mut self, index: u32, venue: &'a Venue) -> Proof {
        let rules = self.ruleset.rules.iter();
        let lanes: Vec<&Rule> =
            rules.filter(|rule| rule.venue == Some(index) && !rule.is_default_deny()).collect();
        let mut proof = Proof { name: venue.name.clone(), lanes: lanes.len(), admitted: 0, holds: true };
        let space = self.space;
        let theirs = space.of(venue.addresses);
        let theirs: Vec<(&Class, Sources<'_>)> =
            theirs.map(|class| (class, self.decider.sources(&class.members, self.now))).collect();
        for ours in &space.classes {
            let inside = Self::is_in(ours, &[venue.addresses]);
            let from_ours = self.decider.sources(&ours.members, self.now);
            for (their, from_their) in theirs.iter().filter(|(their, _)| their.v4 == ours.v4) {
                self.lane(&lanes, venue, (ours, their), &from_ours, &mut proof);
                // Within the venue one way is both.
                if !inside {
                    self.lane(&lanes, venue, (their, ours), from_their, &mut proof);
                }
            }
        }
        proof
    }

    /// One direction between two classes: what is admitted is what the lanes name, at all times.
    fn lane(
        &mut self,
        lanes: &[&Rule],
        venue: &Venue,
        (from, to): (&Class, &Class),
        sources: &Sources<'a>,
        proof: &mut Proof,
    ) {
        let routers = sources.routers(&to.members);
        for (number, now) in sources.times.iter().enumerate() {
            let named = self.named(lanes, (from, to), *now);
            for router in &routers {
                if !self.work.take(sources.blocks.len() + self.ports.count()) {
                    return self.give_up(proof, &venue.name, &venue.location);
                }
                let decided = self.decider.to(&sources.blocks, &to.members, *router, *now);
                for (port, rule) in decided.iter().enumerate() {
                    let admitted = self.decider.admits(*rule);
                    if number == 0 && router.is_none() && admitted {
                        proof.admitted = proof.admitted.saturating_add(self.size(port, from, to));
                    }
                    if admitted == named.contains(port) || !proof.holds {
                        continue;
                    }
                    let Some(probe) = self.probe(port, from, to) else { continue };
                    proof.holds = false;
                    let what = if admitted {
                        "admits what none of its lanes names"
                    } else {
                        "does not admit its lane"
                    };
                    let message = format!("{} {what}: {}", venue.name, packet(self.inventory, &probe));
                    let error = Diagnostic::global(Severity::Error, message);
                    self.findings.push(Diagnostic { location: Some(venue.location.clone()), ..error });
                }
            }
        }
    }

    /// Classes of ports that a venue's lanes name between two classes at a time.
    fn named(&self, lanes: &[&Rule], (from, to): (&Class, &Class), now: u64) -> Bits {
        let mut named = Bits::new(self.ports.count());
        let lanes = lanes.iter().filter(|rule| rule.expires.is_none_or(|end| now < end));
        for block in lanes.flat_map(|rule| &rule.blocks) {
            if Self::is_in(from, &block.sources) {
                self.decider.ports_of(block, &to.members).for_each(|port| named.insert(port));
            }
        }
        named
    }

    fn boundary(&mut self, boundary: &Boundary) -> Proof {
        let mut proof =
            Proof { name: boundary.name.clone(), lanes: boundary.only.len(), admitted: 0, holds: true };
        let space = self.space;
        let sides: Vec<Vec<&Class>> = boundary
            .sides
            .iter()
            .map(|ids| space.classes.iter().filter(|class| Self::is_in(class, ids)).collect())
            .collect();
        for (i, here) in sides.iter().enumerate() {
            for from in here {
                let sources = self.decider.sources(&from.members, self.now);
                // Who is the source of no accept admits nothing.
                let mut rules = sources.blocks.iter().map(|(rule, _)| &self.ruleset.rules[*rule as usize]);
                if !rules.any(|rule| rule.action == Action::Accept) {
                    continue;
                }
                let others = sides.iter().enumerate().filter(|(j, _)| *j != i);
                for to in others.flat_map(|(_, there)| there).filter(|to| to.v4 == from.v4) {
                    self.across(boundary, (from, to), &sources, &mut proof);
                }
            }
        }
        proof
    }

    fn across(
        &mut self,
        boundary: &Boundary,
        (from, to): (&Class, &Class),
        sources: &Sources<'a>,
        proof: &mut Proof,
    ) {
        let only = excepted(&self.decider, boundary, &from.members, &to.members, self.ports.count());
        let routers = sources.routers(&to.members);
        for (number, now) in sources.times.iter().enumerate() {
            for router in &routers {
                if !self.work.take(sources.blocks.len() + self.ports.count()) {
                    let name = format!("the boundary \"{}\"", boundary.name);
                    return self.give_up(proof, &name, &boundary.location);
                }
                let decided = self.decider.to(&sources.blocks, &to.members, *router, *now);
                for (port, rule) in decided.iter().enumerate().filter(|(_, rule)| self.decider.admits(**rule))
                {
                    if number == 0 && router.is_none() {
                        proof.admitted = proof.admitted.saturating_add(self.size(port, from, to));
                    }
                    if only.contains(port) || !proof.holds {
                        continue;
                    }
                    let Some(probe) = self.probe(port, from, to) else { continue };
                    proof.holds = false;
                    let title = rule.map_or(String::new(), |rule| self.ruleset.rules[rule as usize].title());
                    let message = format!(
                        "the boundary \"{}\" is crossed: {title} admits {}",
                        boundary.name,
                        packet(self.inventory, &probe)
                    );
                    let error = Diagnostic::global(Severity::Error, message);
                    self.findings.push(Diagnostic { location: Some(boundary.location.clone()), ..error });
                }
            }
        }
    }

    fn give_up(&mut self, proof: &mut Proof, name: &str, location: &Location) {
        if std::mem::replace(&mut proof.holds, false) {
            self.findings.push(too_much(name, location));
        }
    }

    /// How many packets there are between two classes on a class of ports.
    fn size(&self, port: usize, from: &Class, to: &Class) -> u128 {
        from.size.saturating_mul(to.size).saturating_mul(self.ports.size(port, from.v4))
    }

    fn probe(&self, port: usize, from: &Class, to: &Class) -> Option<Probe> {
        let (protocol, port) = self.ports.packet(port, from.v4)?;
        let (source, destination) = (from.addresses[0], to.addresses[0]);
        Some(Probe { source, destination, protocol, port })
    }
}
