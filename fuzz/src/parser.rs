//! Packets, one after the other, through the whole decision with flows and fragments. Each
//! that passes is read again by another parser and held against the rules as they read, and
//! against what passed before it.

use std::sync::LazyLock;

use bulkhead_abi::{Direction, FEATURE_AUDIT, INTERFACE_ETHERNET, TIMEOUTS, Timeouts};
use bulkhead_engine::memory::Memory;
use bulkhead_engine::{Case, FastPath, Packet, Reason, decide, fast_path};
use bulkhead_policy::Dialect;
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::evaluate::environment;
use bulkhead_policy::inventory::{self, Inventory, Network};
use bulkhead_policy::policy;
use bulkhead_policy::resolve::{Ruleset, resolve};
use bulkhead_policy::source::Source;

use crate::naive::Observer;

/// The first byte of an input: an Ethernet interface.
pub const ETHERNET: u8 = 1;
/// The first byte of an input: audit mode.
pub const AUDIT: u8 = 2;
/// The byte before each packet: it goes out.
pub const EGRESS: u8 = 1;

/// A node with a route, rules for every protocol in both directions, denials and an end.
pub const POLICY: &str = r#"{
    "acls": [
        {"action": "deny", "src": ["tag:c"], "dst": ["tag:a:443"], "proto": "tcp"},
        {"action": "accept", "src": ["*"], "dst": ["tag:a:22,443,8000-8080"], "expires": "1970-01-01T00:02:30Z"},
        {"action": "accept", "src": ["tag:b"], "dst": ["tag:a:*"]},
        {"action": "accept", "src": ["tag:a"], "dst": ["tag:b:53,443", "tag:c:*"]},
        {"action": "accept", "src": ["tag:c"], "dst": ["host:*"], "proto": "sctp"},
        {"action": "accept", "src": ["tag:a"], "dst": ["10.1.0.0/16:80"]},
    ],
    "grants": [{"src": ["u1@x.y"], "dst": ["tag:a", "tag:b"], "ip": ["icmp:*", "47:*", "udp:53"]}],
    "hosts": {"host": "192.168.7.0/24"},
    "tagOwners": {"tag:a": [], "tag:b": [], "tag:c": []},
}"#;
/// Four nodes.
pub const INVENTORY: &str = r#"{"nodes": [
    {"name": "n1", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "tags": ["tag:a"], "routes": ["192.168.7.0/24", "2001:db8:1::/48"]},
    {"name": "n2", "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "tags": ["tag:b"]},
    {"name": "n3", "addresses": ["100.64.0.3", "fd7a:115c:a1e0::3"], "tags": ["tag:c"], "expires": "1970-01-01T00:04:00Z"},
    {"name": "n4", "addresses": ["100.64.0.4", "fd7a:115c:a1e0::4"], "user": "u1@x.y", "routes": ["10.1.2.0/24"]},
]}"#;

/// The node whose tables decide.
pub const NODE: &str = "n1";

/// Rules, and the tables that they became.
pub(crate) struct World {
    pub(crate) ruleset: Ruleset,
    pub(crate) inventory: Inventory,
    pub(crate) program: Program,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut findings = Findings::default();
    let inventory = inventory::parse(&Source::new("inventory", INVENTORY), &mut findings);
    let policy = policy::parse(&Source::new("policy", POLICY), Dialect::Bulkhead, &mut findings);
    let Some((inventory, policy)) = inventory.zip(policy) else { panic!("{findings}") };
    let ruleset = resolve(&policy, &inventory, Dialect::Bulkhead, Network::Overlay, &mut findings);
    assert!(!findings.has_errors(), "{findings}");
    let program = compile(&ruleset, &inventory, NODE, Limits::default());
    let program = program.unwrap_or_else(|error| panic!("{error}"));
    World { ruleset, inventory, program }
});

/// Decides on a packet the long way and, if it is a plain one, the fast path as well.
///
/// # Panics
/// If these do not come to the same.
fn decide_both_ways(memory: &mut Memory, packet: &Packet, direction: Direction, case: &mut Case) {
    let (before, copy) = (*case, memory.clone());
    decide(memory, packet, direction, case);
    match fast_path(&copy, packet, direction) {
        Some(FastPath::Verdict(length, outcome, _)) => {
            assert_eq!((length, outcome), (case.headers.length, case.outcome));
            assert_eq!(memory.flows, copy.flows, "a settled packet has no flow");
        }
        Some(FastPath::NeedsFlow(judged)) => {
            let mut short = before;
            judged.decide(&copy, packet, direction, &mut short);
            assert_eq!((short, &copy.flows), (*case, &memory.flows));
        }
        None => {}
    }
}

/// Decides on the packets of an input: a byte for the interface, then for each packet a byte
/// (bit 0: [`EGRESS`]; the others: seconds since the one before), its length in a byte, and it.
///
/// # Panics
/// If a packet passes that should not have, or the tables lack something.
pub fn run(data: &[u8]) {
    let Some((interface, mut rest)) = data.split_first() else { return };
    let world: &World = &WORLD;
    let mut memory = environment(&world.program.tables, 0);
    memory.settings.timeouts =
        Timeouts(std::array::from_fn::<_, TIMEOUTS, _>(|state| 10 + 30 * state as u32));
    if interface & ETHERNET != 0 {
        memory.settings.interface = INTERFACE_ETHERNET;
    }
    let audit = interface & AUDIT != 0;
    if audit {
        memory.settings.features |= FEATURE_AUDIT;
    }
    let mut observer = Observer::new(world, interface & ETHERNET != 0);
    let mut case = Case::UNKNOWN;
    while let [control, length, more @ ..] = rest {
        let (bytes, after) = more.split_at(usize::from(*length).min(more.len()));
        rest = after;
        let direction = if control & EGRESS == 0 { Direction::Ingress } else { Direction::Egress };
        memory.settings.fixed_clock += u64::from(control >> 1) * 1_000_000_000;
        decide_both_ways(&mut memory, &Packet::new(bytes), direction, &mut case);
        let reason = case.outcome.reason;
        assert_ne!(reason, Reason::LookupFailed, "a table lacks an entry: {case:?}");
        // What audit mode lets pass is said by the program, not by the engine.
        if !audit {
            observer.check(bytes, direction, &case, memory.settings.fixed_clock);
        }
    }
}
