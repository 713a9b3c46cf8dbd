//! What numbers in events mean: addresses, interfaces and rules of one generation.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_abi::{Action, AggregateKey, KIND_SENDER, KIND_STAGED, NO_RULE, Reason as OfPrograms, to_ip};
use bulkhead_api::event::{
    Allowed, Direction, Drop, End, Enforced, EtherType, Kind, Protocol, Reason, Rule, WouldDiffer,
};
use bulkhead_policy::inventory::{Inventory, Node, Owner};
use ipnet::IpNet;

/// Names of one generation.
#[derive(Clone, Debug)]
pub struct Enricher {
    nodes: Vec<Identity>,
    /// Nodes by their addresses.
    hosts: HashMap<IpAddr, u32>,
    /// Routes and who routes to them, the longest first.
    routes: Vec<(IpNet, u32)>,
    interfaces: Arc<Mutex<HashMap<u32, String>>>,
    /// Interfaces to networks beneath the overlay.
    beneath: HashSet<String>,
    /// The nodes' addresses there.
    underlay: HashSet<IpAddr>,
    rules: Vec<Rule>,
    is_audit: bool,
}

/// Who a node is.
#[derive(Clone, Debug)]
struct Identity {
    name: Box<str>,
    key: Option<[u8; 32]>,
    owner: Owner,
}

/// How many packets an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// Packets.
    pub count: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The source's port, of a single packet.
    pub source_port: Option<u16>,
    /// Whether they are in the account of odd turns.
    pub is_odd: bool,
    /// Whether audit mode let it pass, as the packet's event says; where only the generation's names say so: none.
    pub is_audit: Option<bool>,
}

impl Enricher {
    /// Names of what a generation was made from: `rules` by the numbers that the kernel reports. Interfaces are
    /// known by all indices that they have had, which all generations share.
    #[must_use]
    pub fn new(
        inventory: &Inventory,
        rules: Vec<Rule>,
        interfaces: Arc<Mutex<HashMap<u32, String>>>,
        is_audit: bool,
    ) -> Self {
        let identity = |node: &Node| Identity {
            name: node.name.as_str().into(),
            key: node.key,
            owner: node.owner.clone(),
        };
        let numbered = || (0_u32..).zip(&inventory.nodes);
        let addresses = |(number, node): (u32, &Node)| -> Vec<(IpAddr, u32)> {
            node.addresses.iter().chain(&node.underlay).map(|ip| (*ip, number)).collect()
        };
        let routed = |(number, node): (u32, &Node)| -> Vec<(IpNet, u32)> {
            node.routes.iter().map(|route| (*route, number)).collect()
        };
        let mut routes: Vec<_> = numbered().flat_map(routed).collect();
        routes.sort_by_key(|(route, _)| std::cmp::Reverse(route.prefix_len()));
        Self {
            nodes: inventory.nodes.iter().map(identity).collect(),
            hosts: numbered().flat_map(addresses).collect(),
            routes,
            interfaces,
            beneath: HashSet::new(),
            underlay: inventory.nodes.iter().flat_map(|node| &node.underlay).copied().collect(),
            rules,
            is_audit,
        }
    }

    /// The same, where these interfaces are to networks beneath the overlay. What comes in there from an address of
    /// the overlay, or from behind a router of it, is not who that address stands for: anybody there can write it.
    #[must_use]
    pub fn beneath(self, interfaces: HashSet<String>) -> Self {
        Self { beneath: interfaces, ..self }
    }

    /// Names of a generation that nothing is known of.
    #[must_use]
    pub fn unknown(interfaces: Arc<Mutex<HashMap<u32, String>>>) -> Self {
        Self {
            nodes: Vec::new(),
            hosts: HashMap::new(),
            routes: Vec::new(),
            interfaces,
            beneath: HashSet::new(),
            underlay: HashSet::new(),
            rules: Vec::new(),
            is_audit: false,
        }
    }

    /// The rules by the numbers that the kernel reports.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How many rules of the policy these are: one may be in both sets of tables.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rules.iter().map(|rule| rule.number).collect::<HashSet<_>>().len()
    }

    /// An address and whose it is: a node's, or one that a node routes to.
    #[must_use]
    pub fn end(&self, address: IpAddr) -> End {
        let routed = || {
            let (route, node) = self.routes.iter().find(|(route, _)| route.contains(&address))?;
            Some((*node, Some(*route)))
        };
        let unknown = nobody(address);
        let Some((node, route)) = self.hosts.get(&address).map(|node| (*node, None)).or_else(routed) else {
            return unknown;
        };
        let Some(Identity { name, key, owner }) = self.nodes.get(node as usize) else { return unknown };
        let (user, tags) = match owner {
            Owner::User(login) => (Some(login.clone()), Vec::new()),
            Owner::Tags(tags) => (None, tags.clone()),
        };
        let key = key.map(|key| STANDARD.encode(key));
        End { name: Some(name.to_string()), key, user, tags, route, ..unknown }
    }

    /// What an event of the ring or an entry of a table tells of. `enforced` has the names of the enforced
    /// generation, for a difference of the staged one.
    #[must_use]
    pub fn kind(&self, key: &AggregateKey, packets: Packets, enforced: Option<&Self>) -> Kind {
        let drop = self.drop(key, packets);
        match enforced.filter(|_| key.kind == KIND_STAGED) {
            Some(names) => {
                Kind::WouldDiffer(Box::new(WouldDiffer { staged: drop, enforced: names.enforced(key) }))
            }
            None => Kind::Drop(Box::new(drop)),
        }
    }

    /// What an event of a flow that begins tells of; one of so many is told of.
    #[must_use]
    pub fn allowed(&self, key: &AggregateKey, packets: Packets, one_in: u32) -> Kind {
        // A packet that audit mode lets pass though no rule does begins nothing that is told of.
        let first = Drop { audit: false, ..self.drop(key, packets) };
        Kind::Allowed(Box::new(Allowed { first, one_in }))
    }

    /// Whose the source's address is, of what came in at an interface or left there.
    fn source(&self, address: IpAddr, direction: Direction, interface: &str) -> End {
        let is_forged = direction == Direction::Ingress
            && self.beneath.contains(interface)
            && !self.underlay.contains(&address);
        if is_forged { nobody(address) } else { self.end(address) }
    }

    fn drop(&self, key: &AggregateKey, packets: Packets) -> Drop {
        let address = |words| Some(to_ip(words)).filter(|ip: &IpAddr| !ip.is_unspecified());
        let direction = if key.reason & 0x80 == 0 { Direction::Ingress } else { Direction::Egress };
        let interface = self.interface(key.interface);
        let reason = Reason::of(key.reason & 0x7f);
        let is_frame = reason.is(OfPrograms::LinkProtocol);
        let many = key.kind == KIND_SENDER;
        let protocol = Some(Protocol(key.protocol)).filter(|_| !is_frame && !many);
        let has_ports = protocol.is_some_and(Protocol::has_ports);
        Drop {
            direction,
            source: address(&key.source).map(|ip| self.source(ip, direction, &interface)),
            source_port: packets.source_port.filter(|_| has_ports),
            destination: address(&key.destination).map(|ip| self.end(ip)),
            destination_port: Some(key.port).filter(|_| has_ports),
            protocol,
            ethertype: is_frame.then_some(EtherType(key.port)),
            reason,
            rule: self.rule(key.rule),
            interface: Some(interface),
            count: packets.count,
            bytes: packets.bytes,
            generation: key.generation,
            audit: packets.is_audit.unwrap_or(self.is_audit) && !reason.drops_in_audit(),
            odd: packets.is_odd && key.kind != KIND_STAGED,
            many,
        }
    }

    /// What the enforced generation, whose names these are, did where the staged one would not.
    fn enforced(&self, key: &AggregateKey) -> Enforced {
        let reason = OfPrograms::from_number(key.other_reason);
        Enforced {
            reason: Reason::of(key.other_reason),
            passed: reason.is_some_and(|reason| reason.action() == Action::Pass),
            rule: self.rule(key.other_rule),
        }
    }

    fn rule(&self, number: u32) -> Option<Rule> {
        if number == NO_RULE { None } else { self.rules.get(number as usize).cloned() }
    }

    fn interface(&self, index: u32) -> String {
        let known = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&index).cloned().unwrap_or_else(|| format!("if{index}"))
    }
}

/// An address that nobody has.
fn nobody(address: IpAddr) -> End {
    End { address, name: None, key: None, user: None, tags: Vec::new(), route: None }
}

#[cfg(test)]
mod tests {
    use bulkhead_abi::{Address, KIND_DROP, from_ip};
    use bulkhead_policy::diagnostic::Findings;
    use bulkhead_policy::inventory::parse;
    use bulkhead_policy::source::Source;

    use super::*;

    const INVENTORY: &str = r#"{"nodes": [
        {"name": "a", "addresses": ["100.64.0.1"], "underlay": ["203.0.113.7"], "tags": ["tag:a"]},
        {"name": "b", "addresses": ["100.64.0.2"], "tags": ["tag:b"], "routes": ["10.0.0.0/8"]}]}"#;

    /// Names of source and destination of a packet between two addresses.
    fn names(enricher: &Enricher, ends: [&str; 2], interface: u32, egress: bool) -> [Option<String>; 2] {
        let [source, destination] = ends.map(|end| -> Address { from_ip(end.parse().unwrap()) });
        let reason = OfPrograms::DenyRule as u8 | if egress { 0x80 } else { 0 };
        let key = AggregateKey {
            source,
            destination,
            interface,
            rule: NO_RULE,
            generation: 1,
            port: 22,
            protocol: 6,
            reason,
            other_rule: NO_RULE,
            other_generation: 0,
            other_reason: 0,
            kind: KIND_DROP,
            reserved: [0; 2],
        };
        let packets = Packets { count: 1, bytes: 60, source_port: None, is_odd: false, is_audit: None };
        let drop = enricher.drop(&key, packets);
        [drop.source, drop.destination].map(|end| end?.name)
    }

    #[test]
    fn who_writes_an_overlay_address_beneath_the_overlay_is_not_that_node() {
        let inventory = parse(&Source::new("inventory", INVENTORY), &mut Findings::default()).unwrap();
        let interfaces = HashMap::from([(1, "wg0".to_owned()), (2, "eth0".to_owned())]);
        let enricher = Enricher::new(&inventory, Vec::new(), Arc::new(Mutex::new(interfaces)), false)
            .beneath(HashSet::from(["eth0".to_owned()]));
        let named = |ends, interface, egress| names(&enricher, ends, interface, egress);
        let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
        assert_eq!(named(["100.64.0.2", "100.64.0.1"], 1, false), [b.clone(), a.clone()]);
        assert_eq!(named(["100.64.0.2", "203.0.113.7"], 2, false), [None, a.clone()]);
        assert_eq!(named(["10.1.2.3", "100.64.0.1"], 1, false), [b.clone(), a.clone()]);
        assert_eq!(named(["10.1.2.3", "203.0.113.7"], 2, false), [None, a.clone()]);
        assert_eq!(named(["203.0.113.7", "192.0.2.1"], 2, false), [a.clone(), None], "its address there");
        assert_eq!(named(["100.64.0.1", "100.64.0.2"], 2, true), [a, b], "what this host sends is its own");
    }
}
