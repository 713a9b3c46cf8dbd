//! The small world that the scenes play in. Every rule is there both ways, so that each scene
//! can be played at ingress and at egress.

use std::net::IpAddr;

use bulkhead_abi::Direction;
use bulkhead_engine::change::change;
use bulkhead_policy::compile::Program;
use bulkhead_testkit::packets::World;

/// When the rules about [`ENDING`] end, seconds.
pub const END: u64 = 100;
/// A TCP port that rules admit.
pub const WEB: u16 = 80;
/// A UDP port that rules admit.
pub const NAMES: u16 = 53;
/// An SCTP port that rules admit.
pub const SIGNALS: u16 = 9000;
/// A TCP port that a deny rule names.
pub const FORBIDDEN: u16 = 22;
/// A TCP port that rules admit until [`END`].
pub const ENDING: u16 = 8443;
/// A TCP port on which rules admit TLS only.
pub const SECURE: u16 = 443;
/// A port of no rule.
pub const OTHER: u16 = 9999;

/// Services in the order of their pairs of rules: rule `2 × index` is inward, the next outward.
const SERVICES: [(&str, &str, u16); 6] = [
    ("accept", "tcp", WEB),
    ("accept", "udp", NAMES),
    ("accept", "sctp", SIGNALS),
    ("deny", "tcp", FORBIDDEN),
    ("accept", "tcp", ENDING),
    ("accept", "tcp", SECURE),
];

/// The node's tables, with the quarantined node cut off; and the rules that they number.
pub fn program() -> Program {
    let mut rules = String::new();
    for (action, protocol, port) in SERVICES {
        let expires = if port == ENDING { ", \"expires\": \"1970-01-01T00:01:40Z\"" } else { "" };
        let tls = if port == SECURE { ", \"tls\": \"required\"" } else { "" };
        for (from, to) in [("tag:peer", "tag:node"), ("tag:node", "tag:peer")] {
            rules.push_str(&format!(
                "{{\"action\": \"{action}\", \"src\": [\"{from}\"], \"dst\": [\"{to}:{port}\"], \
                 \"proto\": \"{protocol}\"{expires}{tls}}},\n"
            ));
        }
    }
    for protocol in ["icmp", "ipv6-icmp"] {
        rules.push_str(&format!(
            "{{\"action\": \"accept\", \"src\": [\"tag:peer\", \"tag:node\"], \
             \"dst\": [\"tag:peer:*\", \"tag:node:*\"], \"proto\": \"{protocol}\"}},\n"
        ));
    }
    let policy = format!("{{\"acls\": [{rules}], \"tagOwners\": {{\"tag:peer\": [], \"tag:node\": []}}}}");
    // Enough neighbours for the network to have a block of the trie.
    let crowd = (100..120).fold(String::new(), |crowd, host| crowd + &format!(", \"100.64.0.{host}\""));
    let nodes: String = [(1, "node", ""), (2, "peer", ""), (3, "peer", ""), (4, "peer", &*crowd)]
        .map(|(index, tag, more)| {
            format!(
                "{{\"name\": \"n{index}\", \"addresses\": [\"100.64.0.{index}\", \"fd7a:115c:a1e0::{index}\"{more}], \
                 \"tags\": [\"tag:{tag}\"]}},"
            )
        })
        .concat();
    let inventory = format!("{{\"nodes\": [{nodes}], \"users\": []}}");
    let mut program = World::new(policy, inventory, "n1").program;
    for address in [[100, 64, 0, 3].into(), [0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 3].into()] {
        change(&mut program.tables, address, |leaf| leaf.with_quarantine(true)).expect("whole tables");
    }
    program
}

/// Who sends to whom where a scene is played: the packet under test goes from `from` to `to`.
pub struct Place {
    pub direction: Direction,
    pub v4: bool,
    pub from: IpAddr,
    pub to: IpAddr,
}

impl Place {
    pub fn new(direction: Direction, v4: bool) -> Self {
        let mut place = Self { direction, v4, from: Self::at(v4, 1), to: Self::at(v4, 1) };
        (place.from, place.to) = place.with_far(2);
        place
    }

    /// The address of a node.
    fn at(v4: bool, node: u8) -> IpAddr {
        if v4 {
            IpAddr::from([100, 64, 0, node])
        } else {
            IpAddr::from([0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, u16::from(node)])
        }
    }

    /// The ends with another node as the far one: 3 is quarantined, 9 is nobody.
    pub fn with_far(&self, node: u8) -> (IpAddr, IpAddr) {
        let (near, far) = (Self::at(self.v4, 1), Self::at(self.v4, node));
        match self.direction {
            Direction::Ingress => (far, near),
            Direction::Egress => (near, far),
        }
    }

    /// Two nodes, neither of which is this one.
    pub fn elsewhere(&self) -> (IpAddr, IpAddr) {
        (Self::at(self.v4, 2), Self::at(self.v4, 4))
    }

    /// The policy's rule about a service's packets that go one way.
    pub fn rule(&self, port: u16, back: bool) -> u32 {
        let service = SERVICES.iter().position(|service| service.2 == port).expect("a service") as u32;
        let way = if back { self.direction.opposite() } else { self.direction };
        2 * service + way.index()
    }
}
