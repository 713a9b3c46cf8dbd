//! Grants with `via`: which routers carry them, and what of.

use super::resolver::{Key, Resolver};
use super::sets::Place;
use super::{Block, SelectorId};
use crate::address::AddressSet;
use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::policy::{self, Action, Autogroup, Selector};

impl Resolver<'_> {
    /// A grant with `via`: one block for each router, of what that router routes.
    pub(super) fn routed(&mut self, rule: &policy::Rule, sources: &[SelectorId], blocks: &mut Vec<Block>) {
        for tag in &rule.via {
            if let Err(mut unresolved) = self.sets.tag(&tag.value) {
                unresolved.message = format!("tag \"{}\" not found", tag.value);
                self.complain(tag.span, unresolved);
            }
        }
        let tags: Vec<&str> = rule.via.iter().map(|tag| tag.value.as_str()).collect();
        for destination in &rule.destinations {
            // An unknown name is an error here as everywhere.
            self.used(&destination.selector, Place::destination(rule.action), None);
            if !by_address(&destination.selector.value) {
                let message = format!(
                    "{}: via is about routed addresses only: nothing is admitted",
                    destination.selector.value
                );
                let warning = Diagnostic::warning(&self.policy.source, destination.selector.span, message);
                self.findings.push(warning.help("name a prefix, a host, an IP set or autogroup:internet"));
            }
        }
        for router in self.sets.directory.routers(&tags) {
            let mut destinations = Vec::new();
            for destination in rule.destinations.iter().filter(|to| by_address(&to.selector.value)) {
                if let Some(id) = self.through(&destination.selector.value, router) {
                    destinations.extend(self.services(destination, rule.action).map(|service| (id, service)));
                }
            }
            blocks.push(Block { sources: sources.to_vec(), destinations, via: Some(router) });
        }
    }

    /// What a router routes of a destination; `None` if nothing.
    fn through(&mut self, selector: &Selector, router: u32) -> Option<SelectorId> {
        let key = Key { selector: selector.clone(), place: None, filter: None, via: Some(router) };
        if let Some(known) = self.known.get(&key) {
            return known.clone().ok();
        }
        let node = &self.inventory.nodes[router as usize];
        let exit = *selector == Selector::Autogroup(Autogroup::Internet);
        let routes = node.routes.iter().filter(|route| (route.prefix_len() == 0) == exit);
        let routes = AddressSet::from_prefixes(routes);
        let set = self.sets.set(selector, Place::destination(Action::Accept)).ok()?.intersection(&routes);
        if set.is_empty() {
            return None;
        }
        let id = self.push(format!("{selector} via {}", node.name), set);
        self.known.insert(key, Ok(id));
        Some(id)
    }
}

/// Whether a destination is one that routers route, whoever holds it.
fn by_address(selector: &Selector) -> bool {
    matches!(
        selector,
        Selector::Prefix(_)
            | Selector::Host(_)
            | Selector::IpSet(_)
            | Selector::Autogroup(Autogroup::Internet)
    )
}
