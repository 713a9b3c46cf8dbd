//! What one node's tables are cut from: which selectors matter to it, on which side.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::address::AddressSet;
use crate::bits::Bits;
use crate::frontend::inventory::{Inventory, Node};
use crate::resolve::{Ruleset, SelectorId};

/// Between whom packets are that tables are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    /// The node and others.
    Hosts,
    /// The node's own addresses, on `lo`.
    Own,
}

/// The sets that a node's addresses are classified by, numbered: first those of the local
/// side, then those of the remote side, then 'own'.
pub(super) struct Sides<'a> {
    /// The node's own addresses, those of its workloads, and the multicast groups that it receives.
    pub(super) own: AddressSet,
    /// Own addresses and approved routes.
    pub(super) local: AddressSet,
    /// Selectors that hold a local address, each cut down to the local ones.
    pub(super) local_selectors: Vec<(SelectorId, AddressSet)>,
    /// Its workloads, and the addresses of each: they are told apart whatever the rules say.
    pub(super) workloads: Vec<(&'a Node, AddressSet)>,
    /// Selectors at the other end of a rule that holds a local address.
    pub(super) remote_selectors: Vec<SelectorId>,
    /// Their addresses.
    remote_sets: Vec<Cow<'a, AddressSet>>,
    /// Whoever the inventory knows.
    pub(super) known: AddressSet,
    /// Addresses that are gone after a time, by time.
    pub(super) expiring: Vec<(u64, AddressSet)>,
    /// For each selector of the ruleset, whether it holds a local address.
    pub(super) touches: Vec<bool>,
}

impl<'a> Sides<'a> {
    pub(super) fn new(
        ruleset: &'a Ruleset,
        inventory: &'a Inventory,
        node: &'a Node,
        between: Between,
    ) -> Self {
        let of = |node: &Node| AddressSet::from_addresses(node.addresses_on(ruleset.network).iter().copied());
        let workloads = inventory.workloads_of(&node.name).map(|workload| (workload, of(workload)));
        let workloads: Vec<_> = workloads.filter(|(_, set)| !set.is_empty()).collect();
        let own = workloads.iter().fold(of(node), |own, (_, set)| own.union(set));
        let own = own.union(&ruleset.groups_of(node));
        let local = match between {
            Between::Hosts => own.union(&node.routed(ruleset.network)),
            Between::Own => own.clone(),
        };
        let touches: Vec<bool> =
            ruleset.selectors.iter().map(|selector| selector.set.intersects(&local)).collect();
        let mut near = Bits::new(touches.len());
        let mut far = Bits::new(touches.len());
        for block in ruleset.rules.iter().flat_map(|rule| &rule.blocks) {
            let sources = block.sources.iter().map(|id| id.0 as usize);
            let destinations = block.destinations.iter().map(|(id, _)| id.0 as usize);
            for (here, there) in [
                (sources.clone().collect::<Vec<_>>(), destinations.clone().collect::<Vec<_>>()),
                (destinations.collect(), sources.collect()),
            ] {
                let mut any = false;
                for id in here.into_iter().filter(|id| touches[*id]) {
                    near.insert(id);
                    any = true;
                }
                if any {
                    there.into_iter().for_each(|id| far.insert(id));
                }
            }
        }
        let local_selectors = near.iter().map(|id| {
            let id = SelectorId(id as u32);
            (id, ruleset.selector(id).set.intersection(&local))
        });
        let remote_selectors: Vec<_> = far.iter().map(|id| SelectorId(id as u32)).collect();
        let sets = remote_selectors.iter().map(|id| &ruleset.selector(*id).set);
        let (mut known, mut expiring) = (known(inventory, ruleset), expiring(inventory, ruleset));
        let remote_sets = match between {
            Between::Hosts => sets.map(Cow::Borrowed).collect(),
            Between::Own => {
                known = known.intersection(&own);
                expiring.iter_mut().for_each(|(_, set)| *set = set.intersection(&own));
                expiring.retain(|(_, set)| !set.is_empty());
                sets.map(|set| Cow::Owned(set.intersection(&own))).collect()
            }
        };
        Self {
            local_selectors: local_selectors.collect(),
            workloads,
            remote_selectors,
            remote_sets,
            known,
            expiring,
            own,
            local,
            touches,
        }
    }

    /// How many sets there are on the local side, 'local' itself among them.
    pub(super) fn locals(&self) -> usize {
        self.local_selectors.len() + 1 + self.workloads.len()
    }

    /// Which of the node's workloads has the addresses of a local class, by its place among them; `members` are the
    /// class's sets.
    pub(super) fn workload_of(&self, members: &Bits) -> Option<usize> {
        let first = self.local_selectors.len() + 1;
        (0..self.workloads.len()).find(|place| members.contains(first + place))
    }

    /// How many sets there are on the remote side.
    pub(super) fn remotes(&self) -> usize {
        self.remote_selectors.len() + 1 + self.expiring.len()
    }

    /// Every set, in order of its number.
    pub(super) fn sets(&self) -> Vec<&AddressSet> {
        let local = std::iter::once(&self.local).chain(self.local_selectors.iter().map(|(_, set)| set));
        let local = local.chain(self.workloads.iter().map(|(_, set)| set));
        let remote = self.remote_sets.iter().map(AsRef::as_ref);
        let remote = std::iter::once(&self.known).chain(remote).chain(self.expiring.iter().map(|(_, s)| s));
        local.chain(remote).chain([&self.own]).collect()
    }
}

fn known(inventory: &Inventory, ruleset: &Ruleset) -> AddressSet {
    let nodes = inventory.nodes.iter();
    let addresses = AddressSet::from_addresses(
        nodes.clone().flat_map(|node| node.addresses_on(ruleset.network)).copied(),
    );
    let routes =
        nodes.flat_map(|node| node.routes_on(ruleset.network)).filter(|route| route.prefix_len() > 0);
    addresses.union(&AddressSet::from_prefixes(routes))
}

/// Addresses that end with a node, by time. A routed address ends with the last node that
/// routes it; an exit node's route to everything makes nobody known, so it ends nobody.
fn expiring(inventory: &Inventory, ruleset: &Ruleset) -> Vec<(u64, AddressSet)> {
    let mut by_time: BTreeMap<u64, Vec<&Node>> = BTreeMap::new();
    for node in &inventory.nodes {
        if let Some(time) = node.expires {
            by_time.entry(time).or_default().push(node);
        }
    }
    if by_time.is_empty() {
        return Vec::new();
    }
    let routes = |nodes: &mut dyn Iterator<Item = &Node>| {
        let routes = nodes.flat_map(|node| node.routes_on(ruleset.network));
        let routes: Vec<_> = routes.filter(|route| route.prefix_len() > 0).copied().collect();
        AddressSet::from_prefixes(&routes)
    };
    let held = |nodes: &mut dyn Iterator<Item = &Node>| {
        let addresses: Vec<_> =
            nodes.flat_map(|node| node.addresses_on(ruleset.network).iter().copied()).collect();
        AddressSet::from_addresses(addresses)
    };
    let mut settled = held(&mut inventory.nodes.iter())
        .union(&routes(&mut inventory.nodes.iter().filter(|node| node.expires.is_none())));
    let mut all = Vec::new();
    for (time, nodes) in by_time.into_iter().rev() {
        let routed = routes(&mut nodes.iter().copied()).minus(&settled);
        settled = settled.union(&routed);
        all.push((time, held(&mut nodes.iter().copied()).union(&routed)));
    }
    all
}
