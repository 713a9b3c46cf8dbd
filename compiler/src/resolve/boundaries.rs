//! The boundaries section: who is on which side, and what may cross all the same.

use super::resolver::Resolver;
use super::sets::Place;
use super::{Block, Boundary, SelectorId};
use crate::address::AddressSet;
use crate::diagnostic::{Diagnostic, Location};
use crate::policy::{self, Action, Autogroup, Destination, Selector};
use crate::service::Service;
use crate::source::Spanned;

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
            sides.push(side.iter().filter_map(|selector| self.used(selector, everybody, None)).collect());
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

    /// A source of an exception. A star is everybody, as on the sides.
    fn side(&mut self, selector: &Spanned<Selector>) -> Option<SelectorId> {
        let source = matches!(selector.value, Selector::Autogroup(Autogroup::DangerAll));
        let place = if source { Place::source(Action::Deny) } else { Place::destination(Action::Deny) };
        self.used(selector, place, None)
    }

    fn apart(&mut self, boundary: &policy::Boundary, sides: &[Vec<SelectorId>]) {
        let sets: Vec<AddressSet> = sides
            .iter()
            .map(|side| {
                let sets = side.iter().map(|id| &self.selectors[id.0 as usize].set);
                sets.fold(AddressSet::default(), |all, set| all.union(set))
            })
            .collect();
        for (index, set) in sets.iter().enumerate() {
            for other in &sets[..index] {
                let Some(address) = set.intersection(other).first() else { continue };
                let who = match self.inventory.holder(address) {
                    Some(node) => format!("{} ({address})", node.name),
                    None => address.to_string(),
                };
                let message = format!("{who} is on two sides of the boundary \"{}\"", boundary.name.value);
                let error = Diagnostic::error(&self.policy.source, boundary.name.span, message);
                self.findings
                    .push(error.help("take a tag from it, or name the sides by tags that nobody shares"));
            }
        }
    }
}
