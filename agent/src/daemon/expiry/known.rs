//! All that ends, of one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_api::event::{Expiring, Rule};
use bulkhead_policy::inventory::{Inventory, Node};

use super::watch::Item;
use super::{Ending, Endings};

/// All that ends.
pub struct Known {
    /// Rules, with what they are.
    rules: Vec<(Ending, Rule)>,
    inventory: Arc<Inventory>,
    others: Vec<Arc<[Ending]>>,
}

impl Known {
    /// Of rules of the running generation, its inventory, and what other sources tell.
    pub fn new(rules: &[(Rule, u64)], inventory: Arc<Inventory>, endings: &Endings) -> Self {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        rules.iter().for_each(|(rule, _)| *seen.entry(rule.title()).or_default() += 1);
        let named = |(rule, ends): &(Rule, u64)| {
            let title = rule.title();
            let at = rule.position.as_ref().filter(|_| seen.get(&title).is_some_and(|count| *count > 1));
            let name = at.map_or_else(|| title.clone(), |at| format!("{title} at {at}"));
            (Ending { kind: Expiring::Rule, name, begins: None, ends: *ends }, rule.clone())
        };
        Self { rules: rules.iter().map(named).collect(), inventory, others: endings.all() }
    }

    /// All of it.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        let rules = self.rules.iter().map(|(ending, _)| ending.item());
        let nodes = self.inventory.nodes.iter().filter_map(of_node);
        rules.chain(nodes).chain(self.others.iter().flat_map(|all| all.iter()).map(Ending::item))
    }

    /// A rule by the name that it has here.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|(ending, _)| ending.name == name).map(|(_, rule)| rule)
    }
}

fn of_node(node: &Node) -> Option<Item<'_>> {
    let (kind, ends) = match &node.workload {
        // One that ends with its host is told of as its host.
        Some(workload) => (Expiring::Workload, workload.expires?),
        None => (Expiring::NodeKey, node.expires?),
    };
    Some(Item { kind, name: &node.name, begins: None, ends })
}
