//! Boundaries: no rule crosses one, but for what its `only` names.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::bits::Bits;
use crate::decide::{Candidate, Decider, Ports, Work};
use crate::diagnostic::{Diagnostic, Findings, Location, Related, Severity};
use crate::inventory::Inventory;
use crate::policy::Action;
use crate::reference::Probe;
use crate::resolve::{Block, Boundary, Rule, Ruleset, SelectorId};
use crate::space::Space;

/// Every rule that would cross a boundary is an error at its place, with a packet that shows it.
///
/// The search is over classes, at every time at which a rule ends: what is not found does not
/// exist. If there is too much to search that is an error, not a yes.
pub(crate) fn check(ruleset: &Ruleset, inventory: &Inventory, findings: &mut Findings) {
    if ruleset.boundaries.is_empty() {
        return;
    }
    let ports = Ports::new(&[ruleset]);
    let mut search = Search {
        ruleset,
        decider: Decider::new(ruleset, &ports, 0),
        ports: &ports,
        space: Space::new(ruleset),
        routers: routers(ruleset),
        from: HashMap::new(),
        work: Work::new(),
    };
    for boundary in &ruleset.boundaries {
        for (index, rule) in ruleset.rules.iter().enumerate() {
            if rule.action == Action::Deny {
                continue;
            }
            match search.crossing(boundary, index) {
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

/// The routers at which rules may decide differently: nowhere in particular, at one that no
/// `via` names, at each that one names.
pub(crate) fn routers(ruleset: &Ruleset) -> Vec<Option<u32>> {
    let blocks = ruleset.rules.iter().flat_map(|rule| &rule.blocks);
    let named: BTreeSet<u32> = blocks.filter_map(|block| block.via).collect();
    [None, Some(u32::MAX)].into_iter().chain(named.into_iter().map(Some)).collect()
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
    routers: Vec<Option<u32>>,
    /// Blocks whose sources hold a class, and when they decide otherwise, by the class's index.
    from: HashMap<usize, (Vec<Candidate<'a>>, Vec<u64>)>,
    work: Work,
}

impl<'a> Search<'a> {
    fn crossing(&mut self, boundary: &'a Boundary, index: usize) -> Found {
        for block in &self.ruleset.rules[index].blocks {
            for (i, here) in boundary.sides.iter().enumerate() {
                for (j, there) in boundary.sides.iter().enumerate() {
                    if i == j || !self.touches(block, here, there) {
                        continue;
                    }
                    match self.between(boundary, (here, there), index, block) {
                        Found::Nothing => {}
                        found => return found,
                    }
                }
            }
        }
        Found::Nothing
    }

    /// Whether a block is about anybody on both sides at all.
    fn touches(&self, block: &Block, here: &[SelectorId], there: &[SelectorId]) -> bool {
        let set = |id: &SelectorId| &self.ruleset.selector(*id).set;
        let meets = |id: &SelectorId, side: &[SelectorId]| side.iter().any(|s| set(s).intersects(set(id)));
        block.sources.iter().any(|id| meets(id, here))
            && block.destinations.iter().any(|(id, _)| meets(id, there))
    }

    fn between(
        &mut self,
        boundary: &Boundary,
        (here, there): (&[SelectorId], &[SelectorId]),
        index: usize,
        block: &'a Block,
    ) -> Found {
        let count = self.ports.count();
        let on = |members: &Bits, side: &[SelectorId]| side.iter().any(|id| members.contains(id.0 as usize));
        let classes = &self.space.classes;
        let rule = &self.ruleset.rules[index];
        let sources = block.sources.iter().flat_map(|id| self.space.indices(*id));
        for from in sources.filter(|from| on(&classes[*from].members, here)) {
            let source = &classes[from];
            let (candidates, times) = self.from.entry(from).or_insert_with(|| {
                let candidates = self.decider.from(&source.members);
                let times = self.decider.times(&candidates, 0);
                (candidates, times)
            });
            let targets = block.destinations.iter().flat_map(|(id, _)| self.space.indices(*id));
            for to in targets.filter(|to| on(&classes[*to].members, there) && classes[*to].v4 == source.v4) {
                let target = &classes[to];
                let excepted = excepted(&self.decider, boundary, &source.members, &target.members, count);
                let mine: Vec<usize> = self.decider.ports_of(block, &target.members).collect();
                if mine.iter().all(|port| excepted.contains(*port)) {
                    continue;
                }
                for router in &self.routers {
                    for now in times.iter().filter(|now| rule.expires.is_none_or(|end| **now < end)) {
                        if !self.work.take(&self.decider, candidates) {
                            return Found::TooMuch;
                        }
                        let decided = self.decider.to(candidates, &target.members, *router, *now);
                        let crossing = mine.iter().filter(|port| {
                            decided[**port] == Some(index as u32) && !excepted.contains(**port)
                        });
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
