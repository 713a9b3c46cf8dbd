//! The nodes and rules that packets are judged by.

use std::sync::LazyLock;

use bulkhead_policy::Dialect;
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory, Network};
use bulkhead_policy::policy;
use bulkhead_policy::resolve::{Ruleset, resolve};
use bulkhead_policy::source::Source;

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

pub(crate) static WORLD: LazyLock<World> = LazyLock::new(|| {
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
