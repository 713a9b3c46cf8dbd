//! Boundaries: no rule crosses one, but for what its `only` names.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::address::AddressSet;
use crate::analysis::address_classes::Space;
use crate::analysis::decide::{Decider, Ports, Sources, Work};
use crate::analysis::reference::Probe;
use crate::bits::Bits;
use crate::frontend::diagnostic::{Diagnostic, Findings, Location, Related, Severity};
use crate::frontend::inventory::Inventory;
use crate::frontend::policy::Action;
use crate::resolve::{Block, Boundary, Rule, Ruleset, SelectorId};

/// Every rule that would cross a boundary is an error at its place, with a packet that shows it.
///
/// The search is over classes, at every time at which a rule ends: what is not found does not
/// exist. If there is too much to search that is an error, not a yes.
pub fn check(ruleset: &Ruleset, inventory: &Inventory, findings: &mut Findings) {
    if ruleset.boundaries.is_empty() {
        return;
    }
    let ports = Ports::new(&[ruleset]);
    // Whoever is on no side of any boundary crosses none.
    let sides = ruleset.boundaries.iter().flat_map(|boundary| boundary.sides.iter().flatten());
    let sides = sides.fold(AddressSet::default(), |all, id| all.union(&ruleset.selector(*id).set));
    let mut search = Search {
        ruleset,
        decider: Decider::new(ruleset, &ports, 0),
        ports: &ports,
        space: Space::within(ruleset, &sides),
        from: HashMap::new(),
        work: Work::new(),
    };
    for boundary in &ruleset.boundaries {
        let sides = search.on_sides(boundary);
        for (index, rule) in ruleset.rules.iter().enumerate() {
            if rule.action == Action::Deny {
                continue;
            }
            match search.crossing(boundary, &sides, index) {
                Found::Nothing => {}
                Found::Crosses(probe) => findings.push(crosses(inventory, boundary, rule, &probe)),
                Found::TooMuch => {
                    let name = format!("the boundary \"{}\"", boundary.name);
                    findings.push(too_much(&name, &boundary.location));
                    break;
                }
            }
        }
    }
}

/// Ports that a boundary's `only` names between two classes.
pub(crate) fn excepted(
    decider: &Decider<'_>,
    boundary: &Boundary,
    from: &Bits,
    to: &Bits,
    count: usize,
) -> Bits {
    let mut ports = Bits::new(count);
    let holds = |id: &SelectorId| from.contains(id.0 as usize);
    for entry in boundary.only.iter().filter(|entry| entry.sources.iter().any(holds)) {
        decider.ports_of(entry, to).for_each(|port| ports.insert(port));
    }
    ports
}

/// What cannot be searched to the end is not proven.
pub(crate) fn too_much(name: &str, location: &Location) -> Diagnostic {
    let message = format!("{name} cannot be proven: there are too many pairs of address classes");
    let error = Diagnostic::global(Severity::Error, message)
        .help("name its ends by fewer combinations of tags, or deny between them before other rules");
    Diagnostic { location: Some(location.clone()), ..error }
}

enum Found {
    Nothing,
    Crosses(Probe),
    TooMuch,
}

struct Search<'a> {
    ruleset: &'a Ruleset,
    decider: Decider<'a>,
    ports: &'a Ports,
    space: Space,
    /// What decides about packets from a class, by the class's index.
    from: HashMap<usize, Sources<'a>>,
    work: Work,
}

/// For each side of a boundary, for each selector, the classes in both.
type OnSides = Vec<Vec<Vec<usize>>>;

impl<'a> Search<'a> {
    fn on_sides(&self, boundary: &Boundary) -> OnSides {
        let side = |ids: &Vec<SelectorId>| {
            let mut of = vec![Vec::new(); self.ruleset.selectors.len()];
            for (index, class) in self.space.classes.iter().enumerate() {
                if ids.iter().any(|id| class.members.contains(id.0 as usize)) {
                    class.members.iter().for_each(|selector| of[selector].push(index));
                }
            }
            of
        };
        boundary.sides.iter().map(side).collect()
    }

    fn crossing(&mut self, boundary: &'a Boundary, sides: &OnSides, index: usize) -> Found {
        for block in &self.ruleset.rules[index].blocks {
            for (i, here) in sides.iter().enumerate() {
                for (_, there) in sides.iter().enumerate().filter(|(j, _)| *j != i) {
                    match self.between(boundary, (here, there), index, block) {
                        Found::Nothing => {}
                        found => return found,
                    }
                }
            }
        }
        Found::Nothing
    }

    fn between(
        &mut self,
        boundary: &Boundary,
        (here, there): (&[Vec<usize>], &[Vec<usize>]),
        index: usize,
        block: &'a Block,
    ) -> Found {
        let count = self.ports.count();
        let classes = &self.space.classes;
        let rule = &self.ruleset.rules[index];
        let targets: Vec<usize> =
            block.destinations.iter().flat_map(|(id, _)| &there[id.0 as usize]).copied().collect();
        if targets.is_empty() {
            return Found::Nothing;
        }
        for from in block.sources.iter().flat_map(|id| &here[id.0 as usize]) {
            let source = &classes[*from];
            let sources = self.from.entry(*from).or_insert_with(|| self.decider.sources(&source.members, 0));
            for target in targets.iter().map(|to| &classes[*to]).filter(|target| target.v4 == source.v4) {
                for router in &sources.routers(&target.members) {
                    for now in sources.times.iter().filter(|now| rule.expires.is_none_or(|end| **now < end)) {
                        if !self.work.take(sources.blocks.len()) {
                            return Found::TooMuch;
                        }
                        let mut mine: Vec<usize> = self.decider.ports_of(block, &target.members).collect();
                        let at = (*router, *now);
                        let members = &target.members;
                        self.decider.decided_before(index as u32, &sources.blocks, members, at, &mut mine);
                        if mine.is_empty() {
                            continue;
                        }
                        let excepted =
                            excepted(&self.decider, boundary, &source.members, &target.members, count);
                        let crossing = mine.iter().filter(|port| !excepted.contains(**port));
                        let mut packets = crossing.filter_map(|port| self.ports.packet(*port, source.v4));
                        if let Some((protocol, port)) = packets.next() {
                            let (source, destination) = (source.addresses[0], target.addresses[0]);
                            return Found::Crosses(Probe { source, destination, protocol, port });
                        }
                    }
                }
            }
        }
        Found::Nothing
    }
}

/// A packet in words.
pub(crate) fn packet(inventory: &Inventory, probe: &Probe) -> String {
    let who = |address: IpAddr| match inventory.holder(address) {
        Some(node) => format!("{} ({address})", node.name),
        None => address.to_string(),
    };
    let protocol = crate::service::name_of(probe.protocol);
    let port =
        if crate::service::has_ports(probe.protocol) { format!(":{}", probe.port) } else { String::new() };
    format!("{} to {}{port}/{protocol}", who(probe.source), who(probe.destination))
}

fn crosses(inventory: &Inventory, boundary: &Boundary, rule: &Rule, probe: &Probe) -> Diagnostic {
    let message =
        format!("{} crosses the boundary \"{}\": {}", rule.title(), boundary.name, packet(inventory, probe));
    let related = Related {
        message: "nothing crosses here but what only names".into(),
        location: boundary.location.clone(),
    };
    Diagnostic {
        location: rule.location.clone(),
        help: Some("narrow the rule to one side, or name what may cross in the boundary's only".into()),
        related: vec![related],
        ..Diagnostic::global(Severity::Error, message)
    }
}
