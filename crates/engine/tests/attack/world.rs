//! One node, its tables, its flows and its clock.

use std::net::IpAddr;

use bulkhead_abi::{
    BLOCK_SLOTS, CELL_ALLOW, CELL_DENY, Cell, Direction, FEATURE_AUDIT, FLOW_ESTABLISHED, FlowState,
    FragmentKey, INTERFACE_BARE_IP, INTERFACE_ETHERNET, Leaf, LpmKey, Pair, Routed, Settings, TIMEOUTS,
    TRIE_ROOT_BLOCKS, Timeouts, from_ip, pair_index, port_index,
};
use bulkhead_engine::memory::{Memory, Tables};
use bulkhead_engine::{Action, Metadata, Outcome, Packet, Reason, decide};

pub const SECOND: u64 = 1_000_000_000;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

/// The node's own addresses.
pub const OWN: &str = "100.64.0.1";
pub const OWN6: &str = "fd7a::1";
/// An address in a route of the node, which is somebody to the rules as well.
pub const ROUTED: &str = "10.20.0.5";
/// Two peers, and an address that nobody has.
pub const PEER: &str = "100.64.0.2";
pub const PEER6: &str = "fd7a::2";
pub const OTHER: &str = "100.64.0.3";
pub const NOBODY: &str = "203.0.113.9";
/// Routers that all of the peers lie behind.
pub const ROUTER: &str = "203.0.113.1";
pub const ROUTER6: &str = "fd00::99";

const LOCALS: u32 = 2;
const REMOTES: u32 = 4;
/// Classes of the addresses above: local class, remote class, own.
const LEAVES: [(&str, (u32, u32, bool)); 6] = [
    (OWN, (1, 0, true)),
    (OWN6, (1, 0, true)),
    (ROUTED, (2, 3, false)),
    (PEER, (0, 1, false)),
    (PEER6, (0, 1, false)),
    (OTHER, (0, 2, false)),
];

/// What one rule says: its direction, local class, remote class, protocol and port.
#[derive(Clone, Copy)]
pub struct Rule {
    pub direction: Direction,
    pub local: u32,
    pub remote: u32,
    pub protocol: u8,
    pub port: u16,
    pub action: u8,
}

/// A rule that admits what the peer starts towards the node.
pub fn inward(protocol: u8, port: u16) -> Rule {
    Rule { direction: Direction::Ingress, local: 1, remote: 1, protocol, port, action: CELL_ALLOW }
}

/// A rule that admits what the node starts towards the peer.
pub fn outward(protocol: u8, port: u16) -> Rule {
    Rule { direction: Direction::Egress, ..inward(protocol, port) }
}

/// The same rule, but it denies.
pub fn denied(rule: Rule) -> Rule {
    Rule { action: CELL_DENY, ..rule }
}

/// The tables of some rules. A service that two rules name is one port class.
pub fn tables(rules: &[Rule]) -> Tables {
    let mut tables = Tables::deny_all();
    for (address, (local, remote, own)) in LEAVES {
        set_leaf(&mut tables, address, Leaf::new(local, remote, own));
    }
    let mut services: Vec<u32> = rules.iter().map(|rule| port_index(rule.protocol, rule.port)).collect();
    services.sort_unstable();
    services.dedup();
    let classes = services.len() as u32 + 1;
    for (class, at) in (1..).zip(&services) {
        tables.ports[*at as usize / BLOCK_SLOTS][*at as usize % BLOCK_SLOTS] = class;
    }
    let rows = 2 * LOCALS * REMOTES;
    tables.cells = vec![Cell::NONE; (rows * classes) as usize];
    let mut admits = vec![false; rows as usize];
    for (number, rule) in (0..).zip(rules) {
        let row = pair_index(rule.direction, rule.local, rule.remote, LOCALS, REMOTES);
        let class = 1 + services.binary_search(&port_index(rule.protocol, rule.port)).unwrap() as u32;
        tables.cells[(row * classes + class) as usize] = Cell::new(number, rule.action);
        admits[row as usize] |= rule.action == CELL_ALLOW;
    }
    for row in 0..rows {
        let opposite = (row + LOCALS * REMOTES) % rows;
        tables.pairs[0][row as usize] = Pair::new(row * classes, admits[opposite as usize]);
    }
    tables.routes = [PEER, PEER6, OTHER]
        .map(|address| route(address, Routed { behind: 1, speaks_for: 0 }))
        .into_iter()
        .chain([ROUTER, ROUTER6].map(|address| route(address, Routed { behind: 0, speaks_for: 1 })))
        .collect();
    tables.rules = rules.len() as u32;
    (tables.locals, tables.remotes, tables.port_classes) = (LOCALS, REMOTES, classes);
    tables
}

fn route(address: &str, routed: Routed) -> (LpmKey, Routed) {
    (LpmKey { prefix: 128, address: from_ip(address.parse().unwrap()) }, routed)
}

/// Writes the leaf of one address.
pub fn set_leaf(tables: &mut Tables, address: &str, leaf: Leaf) {
    let address: IpAddr = address.parse().unwrap();
    let IpAddr::V4(v4) = address else {
        tables.hosts.set(&from_ip(address), leaf).unwrap();
        return;
    };
    let [a, b, c, d] = v4.octets().map(usize::from);
    let middle = child(tables, a, b);
    let last = child(tables, middle, c);
    tables.trie[last][d] = leaf;
}

fn child(tables: &mut Tables, block: usize, slot: usize) -> usize {
    if let Some(child) = tables.trie[block][slot].as_block() {
        return child as usize;
    }
    let index = tables.trie.len();
    assert!(index >= TRIE_ROOT_BLOCKS as usize);
    tables.trie.push([tables.trie[block][slot]; BLOCK_SLOTS]);
    tables.trie[block][slot] = Leaf::block(index as u32);
    index
}

/// Cuts an address off.
pub fn quarantine(tables: &mut Tables, address: &str) {
    let (_, (local, remote, own)) = LEAVES.into_iter().find(|(known, _)| *known == address).unwrap();
    set_leaf(tables, address, Leaf::new(local, remote, own).with_quarantine(true));
}

/// A node that packets come to and go from.
pub struct Node<'a>(pub Memory<'a>);

impl<'a> Node<'a> {
    /// On a bare-IP interface, in generation 10, at second 1,000.
    pub fn new(tables: &'a Tables) -> Self {
        let mut timeouts = [0; TIMEOUTS];
        for (state, seconds) in [
            (FlowState::TcpSyn, 60),
            (FlowState::TcpEstablished, 7200),
            (FlowState::TcpClosing, 30),
            (FlowState::UdpUnreplied, 30),
            (FlowState::UdpReplied, 180),
            (FlowState::Echo, 30),
            (FlowState::SctpInit, 60),
            (FlowState::SctpEstablished, 7200),
            (FlowState::SctpClosing, 30),
        ] {
            timeouts[state as usize] = seconds;
        }
        Self(Memory::new(
            tables,
            Settings {
                fixed_clock: 1000 * SECOND,
                generation: 10,
                features: tables.features(),
                locals: 0,
                remotes: 0,
                timeouts: Timeouts(timeouts),
                zone: 1,
                interface: INTERFACE_BARE_IP,
                ..Settings::UNSET
            },
        ))
    }

    pub fn ethernet(mut self) -> Self {
        self.0.settings.interface = INTERFACE_ETHERNET;
        self
    }

    pub fn audit(&mut self, on: bool) {
        self.0.settings.features = self.0.tables.features() | if on { FEATURE_AUDIT } else { 0 };
    }

    /// The program of another generation takes over.
    pub fn swap(&mut self, tables: &'a Tables, generation: u32) {
        self.0.tables = tables;
        self.0.settings.generation = generation;
    }

    pub fn wait(&mut self, seconds: u64) {
        self.0.settings.fixed_clock += seconds * SECOND;
    }

    pub fn outcome(&self, direction: Direction, packet: &[u8]) -> Outcome {
        let mut meta = Metadata::UNKNOWN;
        decide(&self.0, &Packet::new(packet), direction, &mut meta);
        meta.outcome
    }

    /// A packet arrives.
    pub fn receive(&self, packet: impl AsRef<[u8]>) -> Reason {
        self.outcome(Direction::Ingress, packet.as_ref()).reason
    }

    /// A packet leaves.
    pub fn send(&self, packet: impl AsRef<[u8]>) -> Reason {
        self.outcome(Direction::Egress, packet.as_ref()).reason
    }

    /// Flows, expired ones included: those that are completed conversations, and the others.
    pub fn flows(&self) -> (usize, usize) {
        let flows = self.0.flows.borrow();
        let established = flows.values().filter(|flow| flow.flags & FLOW_ESTABLISHED != 0).count();
        (established, flows.len() - established)
    }

    /// The datagrams in fragments that are remembered.
    pub fn datagrams(&self) -> Vec<FragmentKey> {
        self.0.fragments.borrow().keys().copied().collect()
    }
}

/// Whether a packet with this outcome goes on.
pub fn passes(reason: Reason) -> bool {
    reason.action() == Action::Pass
}
