//! Who exists: nodes and users.

mod compose;
mod distinct;
pub mod import;
mod lasting;
mod overlap;
mod parse;
mod rivals;
mod spiffe;
mod workload;
mod workloads;

pub use compose::{Composed, LeftOut, common, compose};
pub use parse::parse;
pub use spiffe::{SCHEME as SPIFFE_SCHEME, SpiffeId, SpiffePattern};
pub use workload::{Matches, Workload, pattern_matches};

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::AddressSet;
use crate::frontend::policy::posture::Attributes;
use crate::frontend::source::{Source, Span};

/// One inventory file.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// The file.
    pub source: Source,
    /// Nodes and workloads, in the file's order, a host before its workloads. No two have a name, a key or an address
    /// in common.
    pub nodes: Vec<Node>,
    /// Users, if the section is there.
    pub users: Option<Vec<User>>,
    /// What is known of nodes that a source lists.
    pub annotations: Vec<Annotation>,
    /// Indices of nodes, sorted by name: a million of them cost less so than hashed.
    by_name: Vec<u32>,
    /// Whether it was made up, for a policy that is checked without one: no address in a file is anybody's.
    pub is_placeholder: bool,
    /// Addresses and whose they are, sorted.
    by_address: Vec<(IpAddr, u32)>,
    /// Hashes of owners and whose they are, sorted.
    by_owner: Vec<(u64, u32)>,
    /// Indices of nodes that route.
    routers: Vec<u32>,
    /// Indices of workloads, by the name of their host.
    by_host: Vec<u32>,
}

/// A node, known by its WireGuard public key, or a workload of one.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// WireGuard public key.
    pub key: Option<[u8; 32]>,
    /// Keys that are its own as well while it changes from one to another; none without `key`.
    pub keys: Vec<[u8; 32]>,
    /// Overlay addresses.
    pub addresses: Vec<IpAddr>,
    /// Addresses on networks beneath the overlay.
    pub underlay: Vec<IpAddr>,
    /// Approved routes.
    pub routes: Vec<IpNet>,
    /// Who it is.
    pub owner: Owner,
    /// Posture attributes by name.
    pub posture: Attributes,
    /// When attributes end, by name, ns since the Unix epoch: of what a source lists, which leaves them out from then on.
    pub posture_expires: BTreeMap<String, u64>,
    /// When it ceases to be anybody, ns since the Unix epoch.
    pub expires: Option<u64>,
    /// Whether it may answer and never start: a machine that another tailnet shares with this one.
    pub jailed: bool,
    /// The source that lists it; none: it is written by hand.
    pub source: Option<String>,
    /// Of a workload: of which host, and what it is there.
    pub workload: Option<Box<Workload>>,
    /// Where it is written.
    pub span: Span,
}

/// Who a node is: a user's device, or a service by its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The user's login, in small letters.
    User(String),
    /// The tags, each with its prefix. None at all: the node is nobody's.
    Tags(Vec<String>),
}

impl Owner {
    /// The same for the same owner; tags have no order.
    fn hash(&self) -> u64 {
        let of = |text: &str| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            hasher.finish()
        };
        match self {
            Self::User(login) => of(login),
            Self::Tags(tags) => tags.iter().fold(1, |sum: u64, tag| sum.wrapping_add(of(tag))),
        }
    }

    /// Whether two are the same.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tags(own), Self::Tags(tags)) if own.len() > 1 => {
                own.iter().collect::<BTreeSet<_>>() == tags.iter().collect()
            }
            _ => self == other,
        }
    }
}

/// An inventory's text.
pub(crate) fn written(nodes: &[Node], users: Option<&[User]>, annotations: &[Annotation]) -> String {
    import::text(nodes, users, annotations)
}

/// The role of a user of another tailnet, some device of whom is shared with this one.
pub const SHARED: &str = "shared";

/// Roles by name, as in `autogroup:admin`; `member` is every user's.
pub const ROLES: [&str; 8] =
    ["owner", "admin", "network-admin", "it-admin", "billing-admin", "auditor", "member", SHARED];

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login, in small letters.
    pub login: String,
    /// Roles, as in `autogroup:admin`, in small letters.
    pub roles: Vec<String>,
    /// What policies may write in place of the login, in small letters.
    pub aliases: Vec<String>,
    /// The source that lists it; none: it is written by hand.
    pub source: Option<String>,
}

/// What only people know of a node that a source lists, known by its key: whoever may name a machine must not get
/// what belongs to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// WireGuard public key.
    pub key: [u8; 32],
    /// Addresses on networks beneath the overlay.
    pub underlay: Vec<IpAddr>,
    /// Posture attributes by name; the source's own come before them.
    pub posture: Attributes,
}

impl User {
    /// Whether it is of another tailnet, and so no member of this one.
    #[must_use]
    pub fn is_outsider(&self) -> bool {
        self.roles.iter().any(|role| role == SHARED)
    }
}

/// Which of the nodes' addresses stand for them: the interface kind decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Network {
    /// Overlay addresses.
    #[default]
    Overlay,
    /// Underlay addresses.
    Underlay,
}

impl Node {
    /// Every key that is its own.
    pub fn own_keys(&self) -> impl Iterator<Item = [u8; 32]> + Clone + '_ {
        self.key.into_iter().chain(self.keys.iter().copied())
    }

    /// The addresses that stand for it.
    #[must_use]
    pub fn addresses_on(&self, network: Network) -> &[IpAddr] {
        match network {
            Network::Overlay => &self.addresses,
            Network::Underlay => &self.underlay,
        }
    }

    /// The approved routes there: they lead through the overlay only.
    #[must_use]
    pub fn routes_on(&self, network: Network) -> &[IpNet] {
        match network {
            Network::Overlay => &self.routes,
            Network::Underlay => &[],
        }
    }

    /// Its user's login, if it is a user's device.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match &self.owner {
            Owner::User(login) => Some(login),
            Owner::Tags(_) => None,
        }
    }

    /// Its tags; none for a user's device.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        match &self.owner {
            Owner::User(_) => &[],
            Owner::Tags(tags) => tags,
        }
    }

    /// The approved routes there as a set.
    #[must_use]
    pub fn routed(&self, network: Network) -> AddressSet {
        AddressSet::from_prefixes(self.routes_on(network))
    }
}

impl Inventory {
    /// An inventory of nodes that are known to be distinct.
    #[must_use]
    pub fn new(source: Source, nodes: Vec<Node>, users: Option<Vec<User>>) -> Self {
        let mut by_name: Vec<u32> = (0..nodes.len() as u32).collect();
        by_name.sort_by(|a, b| nodes[*a as usize].name.cmp(&nodes[*b as usize].name));
        let addresses = (0..).zip(&nodes).flat_map(|(index, node)| {
            node.addresses.iter().chain(&node.underlay).map(move |address| (*address, index))
        });
        let mut by_address: Vec<(IpAddr, u32)> = addresses.collect();
        by_address.sort_unstable();
        let mut by_owner: Vec<(u64, u32)> =
            (0..).zip(&nodes).map(|(index, node)| (node.owner.hash(), index)).collect();
        by_owner.sort_unstable();
        let routers = (0..).zip(&nodes).filter(|(_, node)| !node.routes.is_empty());
        let routers = routers.map(|(index, _)| index).collect();
        let mut by_host: Vec<u32> =
            (0..).zip(&nodes).filter(|(_, node)| node.workload.is_some()).map(|(index, _)| index).collect();
        by_host.sort_by(|a, b| nodes[*a as usize].host().cmp(nodes[*b as usize].host()));
        let annotations = Vec::new();
        Self {
            source,
            nodes,
            users,
            annotations,
            is_placeholder: false,
            by_name,
            by_address,
            by_owner,
            routers,
            by_host,
        }
    }

    /// The nodes of an owner, in the file's order.
    pub fn owned_by(&self, owner: &Owner) -> impl Iterator<Item = &Node> {
        let hash = owner.hash();
        let first = self.by_owner.partition_point(|(other, _)| *other < hash);
        let alike = self.by_owner[first..].iter().take_while(move |(other, _)| *other == hash);
        alike.map(|(_, index)| &self.nodes[*index as usize]).filter(|node| node.owner.is(owner))
    }

    /// The nodes that have approved routes.
    pub fn routers(&self) -> impl Iterator<Item = &Node> {
        self.routers.iter().map(|index| &self.nodes[*index as usize])
    }

    /// The node of a name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.index(name).map(|index| &self.nodes[index as usize])
    }

    /// The index of the node of a name.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<u32> {
        let found =
            self.by_name.binary_search_by(|index| self.nodes[*index as usize].name.as_str().cmp(name));
        found.ok().map(|at| self.by_name[at])
    }

    /// The node that holds an address.
    #[must_use]
    pub fn holder(&self, address: IpAddr) -> Option<&Node> {
        let found = self.by_address.binary_search_by_key(&address, |(held, _)| *held);
        found.ok().map(|at| &self.nodes[self.by_address[at].1 as usize])
    }

    /// Whether a login is a user's, as far as the inventory tells.
    #[must_use]
    pub fn knows_user(&self, login: &str) -> bool {
        let is = |user: &User| user.login == login || user.aliases.iter().any(|alias| alias == login);
        self.users.iter().flatten().any(is) || self.nodes.iter().any(|node| node.user() == Some(login))
    }

    /// The login that an alias stands for.
    #[must_use]
    pub fn login_of(&self, alias: &str) -> Option<&str> {
        let mut users = self.users.iter().flatten();
        users.find(|user| user.aliases.iter().any(|other| other == alias)).map(|user| &*user.login)
    }
}
