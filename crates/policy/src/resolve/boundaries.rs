//! The boundaries section: who is on which side, and what may cross all the same.

use ipnet::IpNet;

use super::resolver::Resolver;
use super::sets::Place;
use super::{Block, Boundary, SelectorId};
use crate::address::AddressSet;
use crate::frontend::diagnostic::{Diagnostic, Location};
use crate::frontend::inventory::Node;
use crate::frontend::policy::{self, Action, Autogroup, Destination, Selector};
use crate::frontend::source::Spanned;
use crate::service::Service;

impl Resolver<'_> {
    /// The boundaries. Somebody on two sides of one is an error: nothing could keep them apart.
    pub(super) fn boundaries(&mut self) -> Vec<Boundary> {
        let policy = self.policy;
        policy.boundaries.iter().map(|boundary| self.boundary(boundary)).collect()
    }

    fn boundary(&mut self, boundary: &policy::Boundary) -> Boundary {
        let everybody = Place::destination(Action::Deny);
        let mut sides: Vec<Vec<SelectorId>> = Vec::new();
        for side in &boundary.sides {
            let mut ids: Vec<SelectorId> =
                side.iter().filter_map(|selector| self.used(selector, everybody, None)).collect();
            ids.extend(self.belongings(&ids));
            sides.push(ids);
        }
        self.apart(boundary, &sides);
        let only = boundary.only.iter().map(|entry| {
            let mut destinations = Vec::new();
            for Destination { selector, services } in &entry.destinations {
                let Some(id) = self.used(selector, everybody, None) else { continue };
                for (protocol, ports) in services {
                    destinations.push((id, self.service(Service::new(*protocol, ports.clone(), false))));
                }
            }
            let sources = entry.sources.iter().filter_map(|selector| self.side(selector)).collect();
            Block { sources, destinations, via: None }
        });
        let only = only.collect();
        let location = Location::new(&self.policy.source, boundary.name.span);
        Boundary { name: boundary.name.value.clone(), location, sides, only }
    }

    /// What else belongs to the nodes of a side: a node is on it with all its addresses, and with
    /// what it routes. An exit's route to everything makes nobody one of them.
    fn belongings(&mut self, ids: &[SelectorId]) -> Option<SelectorId> {
        let named = self.union(ids);
        let mut nets = Vec::new();
        for node in &self.inventory.nodes {
            let all = node.addresses.iter().chain(&node.underlay);
            if all.clone().any(|address| named.contains(*address)) {
                nets.extend(all.map(|address| IpNet::from(*address)));
                nets.extend(node.routes.iter().filter(|route| route.prefix_len() > 0));
            }
        }
        let rest = AddressSet::from_prefixes(&nets).minus(&named);
        let labels: Vec<&str> = ids.iter().map(|id| &*self.selectors[id.0 as usize].label).collect();
        let label = format!("what belongs to {}", labels.join(", "));
        (!rest.is_empty()).then(|| self.push(label, rest))
    }

    fn union(&self, ids: &[SelectorId]) -> AddressSet {
        let sets = ids.iter().map(|id| &self.selectors[id.0 as usize].set);
        sets.fold(AddressSet::default(), |all, set| all.union(set))
    }

    /// A source of an exception. A star is everybody, as on the sides.
    fn side(&mut self, selector: &Spanned<Selector>) -> Option<SelectorId> {
        let source = matches!(selector.value, Selector::Autogroup(Autogroup::DangerAll));
        let place = if source { Place::source(Action::Deny) } else { Place::destination(Action::Deny) };
        self.used(selector, place, None)
    }

    fn apart(&mut self, boundary: &policy::Boundary, sides: &[Vec<SelectorId>]) {
        let sets: Vec<AddressSet> = sides.iter().map(|side| self.union(side)).collect();
        for (index, set) in sets.iter().enumerate() {
            for other in &sets[..index] {
                let Some(address) = set.intersection(other).first() else { continue };
                let who = self.inventory.holder(address).map(|node| node.name.clone());
                let who = who.or_else(|| {
                    let routes = |node: &&Node| node.routes.iter().any(|route| route.contains(&address));
                    let routers = self.inventory.nodes.iter().filter(routes).map(|node| &*node.name);
                    let routers: Vec<&str> = routers.take(4).collect();
                    (!routers.is_empty()).then(|| format!("what {} route", routers.join(" and ")))
                });
                let who = who.map_or(address.to_string(), |who| format!("{who} ({address})"));
                let message = format!("{who} is on two sides of the boundary \"{}\"", boundary.name.value);
                let error = Diagnostic::error(&self.policy.source, boundary.name.span, message);
                self.findings
                    .push(error.help("take a tag from it, or name the sides by tags that nobody shares"));
            }
        }
    }
}
