//! The inventory by user, tag and role.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::address::AddressSet;
use crate::frontend::inventory::{Inventory, Network, Node, SHARED};

/// Indices of an inventory's nodes.
pub(super) struct Directory<'i> {
    inventory: &'i Inventory,
    network: Network,
    users: BTreeMap<&'i str, Vec<usize>>,
    tags: HashMap<&'i str, Vec<usize>>,
    roles: HashMap<&'i str, Vec<&'i str>>,
    /// Users of another tailnet, with whom a machine of this one is shared.
    outsiders: HashSet<&'i str>,
    /// Logins by what else they are called.
    aliases: HashMap<&'i str, &'i str>,
    /// Addresses of nodes that may answer and never start.
    jailed: AddressSet,
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
        let (mut outsiders, mut aliases) = (HashSet::new(), HashMap::new());
        for user in inventory.users.iter().flatten() {
            users.entry(&user.login).or_default();
            aliases.extend(user.aliases.iter().map(|alias| (alias.as_str(), user.login.as_str())));
            let outside = user.is_outsider();
            if outside {
                outsiders.insert(user.login.as_str());
            }
            // Whatever else an outsider is, it is not so in this tailnet.
            for role in user.roles.iter().filter(|role| !outside || *role == SHARED) {
                roles.entry(role).or_default().push(&user.login);
            }
        }
        let jailed = inventory.nodes.iter().filter(|node| node.jailed);
        let jailed = AddressSet::from_addresses(jailed.flat_map(|node| node.addresses_on(network)).copied());
        Self { inventory, network, users, tags, roles, outsiders, aliases, jailed }
    }

    /// Addresses of nodes that may answer and never start.
    pub(super) fn jailed(&self) -> &AddressSet {
        &self.jailed
    }

    /// Indices of a user's devices, by login or alias.
    fn of_user(&self, login: &str) -> Option<&Vec<usize>> {
        self.users.get(login).or_else(|| self.users.get(self.aliases.get(login)?))
    }

    /// Whether a login is of another tailnet.
    pub(super) fn is_outsider(&self, login: &str) -> bool {
        self.outsiders.contains(self.aliases.get(login).copied().unwrap_or(login))
    }

    /// Whether a login has a device.
    pub(super) fn has_device(&self, login: &str) -> bool {
        self.of_user(login).is_some_and(|nodes| !nodes.is_empty())
    }

    /// Every login, with or without devices, in order.
    pub(super) fn logins(&self) -> impl Iterator<Item = &'i str> + '_ {
        self.users.keys().copied()
    }

    /// Whether a login is known.
    pub(super) fn knows(&self, login: &str) -> bool {
        self.of_user(login).is_some()
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
        self.addresses(logins.into_iter().filter_map(|login| self.of_user(login)).flatten())
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

    /// Approved routes as a destination. They lead through the overlay only.
    pub(super) fn routes(&self) -> AddressSet {
        let routes = self.inventory.nodes.iter().flat_map(|node| node.routes_on(self.network));
        AddressSet::from_prefixes(routes)
    }

    /// Approved routes as a source: not /0, nor those of whoever never starts.
    pub(super) fn sources(&self) -> AddressSet {
        let nodes = self.inventory.nodes.iter().filter(|node| !node.jailed);
        let routes = nodes.flat_map(|node| node.routes_on(self.network));
        AddressSet::from_prefixes(routes.filter(|route| route.prefix_len() > 0))
    }
}
