//! The inventory by user, tag and role.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::address::AddressSet;
use crate::inventory::{Inventory, Network, Node, SHARED};

/// Indices of an inventory's nodes.
pub(super) struct Directory<'i> {
    inventory: &'i Inventory,
    network: Network,
    users: BTreeMap<&'i str, Vec<usize>>,
    tags: HashMap<&'i str, Vec<usize>>,
    roles: HashMap<&'i str, Vec<&'i str>>,
    /// Users of another tailnet, who share a device with this one.
    outsiders: HashSet<&'i str>,
}

impl<'i> Directory<'i> {
    pub(super) fn new(inventory: &'i Inventory, network: Network) -> Self {
        let mut users: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut tags: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut roles: HashMap<&str, Vec<&str>> = HashMap::new();
        for (index, node) in inventory.nodes.iter().enumerate() {
            if let Some(login) = node.user() {
                users.entry(login).or_default().push(index);
            }
            for tag in node.tags() {
                tags.entry(tag).or_default().push(index);
            }
        }
        let mut outsiders = HashSet::new();
        for user in inventory.users.iter().flatten() {
            users.entry(&user.login).or_default();
            let outside = user.is_outsider();
            if outside {
                outsiders.insert(user.login.as_str());
            }
            // Whatever else an outsider is, it is not so in this tailnet.
            for role in user.roles.iter().filter(|role| !outside || *role == SHARED) {
                roles.entry(role).or_default().push(&user.login);
            }
        }
        Self { inventory, network, users, tags, roles, outsiders }
    }

    /// Whether a login is of another tailnet.
    pub(super) fn is_outsider(&self, login: &str) -> bool {
        self.outsiders.contains(login)
    }

    /// Whether a login has a device.
    pub(super) fn has_device(&self, login: &str) -> bool {
        self.users.get(login).is_some_and(|nodes| !nodes.is_empty())
    }

    /// Every login, with or without devices, in order.
    pub(super) fn logins(&self) -> impl Iterator<Item = &'i str> + '_ {
        self.users.keys().copied()
    }

    /// Whether a login is known.
    pub(super) fn knows(&self, login: &str) -> bool {
        self.users.contains_key(login)
    }

    /// Logins that hold a role.
    pub(super) fn holders(&self, role: &str) -> &[&'i str] {
        self.roles.get(role).map_or(&[], Vec::as_slice)
    }

    fn addresses<'a>(&'a self, nodes: impl IntoIterator<Item = &'a usize>) -> AddressSet {
        let nodes = nodes.into_iter().map(|index| &self.inventory.nodes[*index]);
        AddressSet::from_addresses(nodes.flat_map(|node| node.addresses_on(self.network).iter().copied()))
    }

    /// Devices of users.
    pub(super) fn users<'a>(&self, logins: impl IntoIterator<Item = &'a str>) -> AddressSet {
        self.addresses(logins.into_iter().filter_map(|login| self.users.get(login)).flatten())
    }

    /// Every login of a domain, in order.
    pub(super) fn domain(&self, domain: &str) -> Vec<&'i str> {
        let of = |login: &&str| login.rsplit_once('@').is_some_and(|(_, end)| end == domain);
        self.logins().filter(of).collect()
    }

    /// Devices of which `holds` is true.
    pub(super) fn devices(&self, holds: impl Fn(&Node) -> bool) -> AddressSet {
        let nodes = self.inventory.nodes.iter().filter(|node| holds(node));
        AddressSet::from_addresses(nodes.flat_map(|node| node.addresses_on(self.network).iter().copied()))
    }

    /// Routers that carry one of some tags: their indices among the inventory's nodes.
    pub(super) fn routers(&self, tags: &[&str]) -> Vec<u32> {
        let carries = |node: &Node| node.tags().iter().any(|tag| tags.contains(&tag.as_str()));
        let nodes = (0..).zip(&self.inventory.nodes);
        nodes.filter(|(_, node)| carries(node) && !node.routes.is_empty()).map(|(index, _)| index).collect()
    }

    /// Devices that carry a tag.
    pub(super) fn tag(&self, tag: &str) -> AddressSet {
        self.addresses(self.tags.get(tag).into_iter().flatten())
    }

    /// Devices of any user of this tailnet.
    pub(super) fn members(&self) -> AddressSet {
        let members = self.users.iter().filter(|(login, _)| !self.is_outsider(login));
        self.addresses(members.flat_map(|(_, nodes)| nodes))
    }

    /// Devices that carry any tag.
    pub(super) fn tagged(&self) -> AddressSet {
        let nodes = self.inventory.nodes.iter().filter(|node| !node.tags().is_empty());
        AddressSet::from_addresses(nodes.flat_map(|node| node.addresses_on(self.network).iter().copied()))
    }

    /// Every node's addresses.
    pub(super) fn everyone(&self) -> AddressSet {
        let nodes = self.inventory.nodes.iter();
        AddressSet::from_addresses(nodes.flat_map(|node| node.addresses_on(self.network).iter().copied()))
    }

    /// Which addresses stand for nodes here.
    pub(super) fn network(&self) -> Network {
        self.network
    }

    /// Every address that is a node's, on either network.
    pub(super) fn own(&self) -> AddressSet {
        let nodes = self.inventory.nodes.iter();
        AddressSet::from_addresses(
            nodes.flat_map(|node| node.addresses.iter().chain(&node.underlay)).copied(),
        )
    }

    /// Approved routes; `exits` says whether /0 counts. They lead through the overlay only.
    pub(super) fn routes(&self, exits: bool) -> AddressSet {
        let routes = self.inventory.nodes.iter().flat_map(|node| node.routes_on(self.network));
        AddressSet::from_prefixes(routes.filter(|route| exits || route.prefix_len() > 0))
    }
}
