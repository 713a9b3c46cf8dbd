//! An inventory of placeholders, for a policy that is checked without one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::ipsets::ipsets;
use crate::address::AddressSet;
use crate::frontend::inventory::{Inventory, Matches, Node, Owner, ROLES, SHARED, User, Workload};
use crate::frontend::policy::{Autogroup, Policy, Rule, Selector};
use crate::frontend::source::{Source, Span};

/// What the users whom a policy names are taken to be: nobody but the inventory knows their roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Members without a role.
    Members,
    /// Holders of every role that a member can have.
    Admins,
    /// Outsiders.
    Outsiders,
}

impl World {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Members, Self::Admins, Self::Outsiders];

    fn roles(self) -> Vec<String> {
        let has = |role: &&str| match self {
            Self::Members => false,
            Self::Admins => *role != SHARED,
            Self::Outsiders => *role == SHARED,
        };
        ROLES.into_iter().filter(has).map(str::to_owned).collect()
    }
}

/// One node for each tag and each user that the policy names, for each autogroup of users, and for the
/// way to the internet, with the routes that `via` and `autoApprovers` are about.
#[must_use]
pub fn placeholder(policy: &Policy) -> Inventory {
    placeholder_as(policy, World::Members)
}

/// [`placeholder`], with the users whom the policy names as `world` has them.
#[must_use]
pub fn placeholder_as(policy: &Policy, world: World) -> Inventory {
    let selectors = selectors(policy);
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let members =
        policy.groups.iter().flat_map(|(_, members)| members).map(|member| member.value.to_lowercase());
    let named = selectors.iter().filter_map(|selector| match selector {
        Selector::User(login) => Some(login.clone()),
        _ => None,
    });
    users.extend(named.chain(members).map(|login| (login, world.roles())));
    let mut tags: BTreeSet<&str> = policy.tag_owners.iter().map(|(tag, _)| tag.value.as_str()).collect();
    let mut is_led_out = false;
    let mut ids = BTreeSet::new();
    for selector in &selectors {
        match selector {
            Selector::Domain(domain) => drop(users.entry(format!("member@{domain}")).or_default()),
            Selector::Autogroup(Autogroup::Member | Autogroup::OwnDevices) => {
                users.entry("member@placeholder".into()).or_default();
            }
            Selector::Autogroup(Autogroup::Role(role)) => {
                users.insert(format!("{role}@placeholder"), vec![(*role).to_owned()]);
            }
            Selector::Autogroup(Autogroup::Internet) => is_led_out = true,
            Selector::Tag(tag) => drop(tags.insert(tag)),
            Selector::Spiffe(pattern) => drop(ids.insert(pattern.example())),
            _ => {}
        }
    }
    let has_self = selectors.iter().any(|s| matches!(s, Selector::Autogroup(Autogroup::OwnDevices)));
    let tagged =
        tags.into_iter().map(|tag| (tag.to_owned(), Owner::Tags(vec![tag.to_owned()]), routes(policy, tag)));
    let owned = users.keys().map(|login| (login.clone(), Owner::User(login.clone()), Vec::new()));
    // A user has two devices where it matters.
    let second = users
        .keys()
        .filter(|_| has_self)
        .map(|login| (format!("{login} (2)"), Owner::User(login.clone()), Vec::new()));
    let nobodys = |name: &str, routes| (name.to_owned(), Owner::Tags(Vec::new()), routes);
    let exit = is_led_out.then(|| nobodys("exit", everything().to_vec()));
    let routed = routed(policy, world);
    let router = (!routed.is_empty()).then(|| nobodys("router", routed));
    let all = tagged.chain(owned).chain(second).chain(exit).chain(router);
    let nodes = (1u32..).zip(all).map(|(number, (name, owner, routes))| node(number, name, owner, routes));
    let mut nodes: Vec<Node> = nodes.collect();
    for id in ids {
        let number = nodes.len() as u32 + 1;
        let workload = Workload {
            host: "placeholder".into(),
            name: id.to_string(),
            spiffe: Some(id.clone()),
            expires: None,
            matches: Matches::default(),
        };
        let own = node(number, id.to_string(), Owner::Tags(Vec::new()), Vec::new());
        nodes.push(Node { workload: Some(Box::new(workload)), ..own });
    }
    let users = users
        .into_iter()
        .map(|(login, roles)| User { login, roles, aliases: Vec::new(), source: None })
        .collect();
    let mut inventory = Inventory::new(Source::new("(placeholder inventory)", ""), nodes, Some(users));
    inventory.is_placeholder = true;
    inventory
}

/// What is behind routers: the routes that somebody may approve, and, in worlds that are made to see
/// whether a test can hold at all, the addresses that tests name. Whoever routes them stands for nobody, so
/// that it is on no side of a boundary. What is a venue's is behind no router.
fn routed(policy: &Policy, world: World) -> Vec<IpNet> {
    let mut all = policy.approved.clone();
    if world != World::Members {
        let ends = policy.tests.iter().flat_map(|test| {
            let targets = test.accept.iter().chain(&test.deny).map(|target| &target.selector);
            std::iter::once(&test.source).chain(targets)
        });
        all.extend(ends.flat_map(|end| addressed(policy, &end.value)));
    }
    let venues = policy.venues.iter().flat_map(|venue| &venue.addresses).map(|net| &net.value);
    let venues = AddressSet::from_prefixes(venues);
    all.retain(|net| net.prefix_len() == 0 || !venues.intersects(&AddressSet::from_prefixes([net])));
    all.sort_unstable();
    all.dedup();
    all
}

/// What a selector names by address.
fn addressed(policy: &Policy, selector: &Selector) -> Vec<IpNet> {
    match selector {
        Selector::Prefix(net) => vec![*net],
        Selector::Host(host) => {
            let hosts = policy.hosts.iter().filter(|(name, _)| name.value == *host);
            hosts.map(|(_, net)| *net).collect()
        }
        Selector::IpSet(name) => {
            ipsets(policy).get(name.as_str()).map(AddressSet::prefixes).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// Every selector that the policy names.
fn selectors(policy: &Policy) -> Vec<&Selector> {
    let rules = policy.acls.iter().chain(&policy.grants).flatten();
    let in_rules = rules.flat_map(|rule| {
        rule.sources.iter().chain(rule.destinations.iter().map(|destination| &destination.selector))
    });
    let in_tests = policy.tests.iter().flat_map(|test| {
        let targets = test.accept.iter().chain(&test.deny).map(|target| &target.selector);
        std::iter::once(&test.source).chain(targets)
    });
    let in_venues = policy.venues.iter().flat_map(|venue| venue.feeds.iter().chain(&venue.sessions));
    let in_venues = in_venues.flat_map(|lane| &lane.ours);
    let in_boundaries = policy.boundaries.iter().flat_map(|boundary| boundary.sides.iter().flatten());
    let in_ssh = policy.ssh.iter().flat_map(|rule| rule.sources.iter().chain(&rule.destinations));
    let in_ssh_tests =
        policy.ssh_tests.iter().flat_map(|test| std::iter::once(&test.source).chain(&test.destinations));
    let all =
        in_rules.chain(in_tests).chain(in_venues).chain(in_boundaries).chain(in_ssh).chain(in_ssh_tests);
    all.map(|selector| &selector.value).collect()
}

/// Routes to everything: what an exit node has.
fn everything() -> [IpNet; 2] {
    [IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())]
}

/// What a router of a tag must route for the grants that lead through it.
fn routes(policy: &Policy, tag: &str) -> Vec<IpNet> {
    let through = |rule: &&Rule| rule.via.iter().any(|via| via.value == tag);
    let rules = policy.acls.iter().chain(&policy.grants).flatten().filter(through);
    let mut all: Vec<IpNet> = Vec::new();
    for destination in rules.flat_map(|rule| &rule.destinations) {
        match &destination.selector.value {
            Selector::Autogroup(Autogroup::Internet) => all.extend(everything()),
            other => all.extend(addressed(policy, other)),
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn node(number: u32, name: String, owner: Owner, routes: Vec<IpNet>) -> Node {
    let v4 = Ipv4Addr::from_bits((0x6440_0000) | (number & 0x003f_ffff));
    let v6 = Ipv6Addr::from_bits((0xfd7a_115c_a1e0 << 80) | u128::from(number));
    Node {
        name,
        key: None,
        keys: Vec::new(),
        addresses: vec![IpAddr::V4(v4), IpAddr::V6(v6)],
        underlay: Vec::new(),
        routes,
        owner,
        posture: serde_json::Map::new(),
        posture_expires: BTreeMap::new(),
        expires: None,
        jailed: false,
        source: None,
        workload: None,
        span: Span::default(),
    }
}
