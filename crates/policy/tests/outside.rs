//! Machines that may answer and never start, and users who are called by more than one name.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::net::IpAddr;

use bulkhead_abi::Direction;
use bulkhead_engine::Action;
use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::compile::{Limits, compile};
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::explain::explain;
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::source::Source;

const OURS: Dialect = Dialect::Bulkhead;
const THEIRS: Dialect = Dialect::Tailscale;

/// `nas` is shared with us: as somebody's, with routes, an exit too, to see that nothing of it starts.
const INVENTORY: &str = r#"{"nodes": [
  {"name": "alice-1", "addresses": ["100.64.0.1"], "user": "alice@example.com"},
  {"name": "srv", "addresses": ["100.64.0.3"], "tags": ["tag:srv"]},
  {"name": "nas", "addresses": ["100.90.0.3", "fd7a:115c:a1e0::9"], "user": "alice@example.com", "jailed": true,
   "routes": ["10.9.0.0/16", "0.0.0.0/0"]}],
 "users": [{"login": "alice@example.com", "roles": ["admin"], "aliases": ["alice@"]}]}"#;

fn load(policy: &str, dialect: Dialect) -> Loaded {
    let policy = Source::new("p", &format!("{{\"tagOwners\": {{\"tag:srv\": []}},\n{policy}}}"));
    let scope = Scope { dialect, ..Scope::default() };
    let mut loaded = Loaded::new(policy, Some(Source::new("i", INVENTORY)), &scope);
    loaded.check(0);
    assert!(!loaded.findings.has_errors(), "{}", loaded.findings);
    loaded
}

/// What the reference and both hosts' tables say; they must agree.
fn admits(loaded: &Loaded, from: &str, to: &str) -> bool {
    let (source, destination): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let probe = Probe { source, destination, protocol: 6, port: 22 };
    let (ruleset, inventory) = (loaded.ruleset.as_ref().unwrap(), loaded.inventory.as_ref().unwrap());
    let admitted = reference::admitted(ruleset, &probe, 0);
    for (end, direction) in [(source, Direction::Egress), (destination, Direction::Ingress)] {
        let Some(node) = inventory.holder(end) else { continue };
        let program = compile(ruleset, inventory, &node.name, Limits::default()).unwrap();
        let passes =
            evaluate(&environment(&program.tables, 0), direction, &probe).reason.action() == Action::Pass;
        assert_eq!(passes, admitted, "{from} -> {to} at {}", node.name);
    }
    admitted
}

#[test]
fn who_is_jailed_is_no_source_whatever_it_is_named_by_and_a_destination_like_any_other() {
    let sources = [
        "*",
        "alice@example.com",
        "alice@",
        "autogroup:member",
        "autogroup:admin",
        "user:*@example.com",
        "group:g",
        "100.90.0.3",
        "100.90.0.0/16",
        "nas-host",
        "ipset:nas",
        "autogroup:danger-all",
    ];
    for dialect in [OURS, THEIRS] {
        for source in sources {
            let policy = format!(
                r#""hosts": {{"nas-host": "100.90.0.3"}}, "ipsets": {{"ipset:nas": ["host:nas-host"]}},
                   "groups": {{"group:g": ["alice@example.com"]}},
                   "grants": [{{"src": ["{source}"], "dst": ["tag:srv"], "ip": ["*"]}},
                              {{"src": ["alice@example.com"], "dst": ["*"], "ip": ["*"]}}]"#
            );
            let loaded = load(&policy, dialect);
            assert!(!admits(&loaded, "100.90.0.3", "100.64.0.3"), "{source}");
            assert!(admits(&loaded, "100.64.0.1", "100.90.0.3"), "{source}");
            let only = ["100.90.0.3", "nas-host", "ipset:nas"].contains(&source);
            assert_eq!(
                loaded.findings.to_string().contains("is jailed and starts nothing"),
                only,
                "{source}"
            );
        }
        let star = load(r#""acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]"#, dialect);
        assert!(!admits(&star, "10.9.0.1", "100.64.0.3"), "what it routes");
        assert!(admits(&star, "100.64.0.1", "10.9.0.1") && admits(&star, "100.64.0.1", "8.8.8.8"));
        let own = load(
            r#""acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]}]"#,
            dialect,
        );
        assert!(!admits(&own, "100.90.0.3", "100.64.0.1"));
    }
    // A deny is about it all the same.
    let denied = r#""acls": [{"action": "deny", "src": ["alice@example.com"], "dst": ["tag:srv:*"]}]"#;
    let loaded = load(denied, OURS);
    let probe = Probe {
        source: "100.90.0.3".parse().unwrap(),
        destination: "100.64.0.3".parse().unwrap(),
        protocol: 6,
        port: 22,
    };
    let found = explain(loaded.ruleset.as_ref().unwrap(), loaded.inventory.as_ref().unwrap(), &probe, 0);
    assert!(found.from.jailed && !found.to.jailed && found.rule.is_some_and(|rule| rule.number == 1));
}

#[test]
fn an_alias_is_its_user_wherever_a_login_may_stand() {
    for dialect in [OURS, THEIRS] {
        for rule in [
            r#""acls": [{"action": "accept", "src": ["alice@"], "dst": ["tag:srv:22"]}]"#,
            r#""groups": {"group:g": ["Alice@"]}, "acls": [{"action": "accept", "src": ["group:g"], "dst": ["tag:srv:22"]}]"#,
        ] {
            let policy = format!(r#"{rule}, "tests": [{{"src": "alice@", "accept": ["tag:srv:22"]}}]"#);
            let loaded = load(&policy, dialect);
            assert!(admits(&loaded, "100.64.0.1", "100.64.0.3"), "{rule}");
            assert!(loaded.findings.0.is_empty(), "{}", loaded.findings);
        }
        let to = load(r#""acls": [{"action": "accept", "src": ["tag:srv"], "dst": ["alice@:22"]}]"#, dialect);
        assert!(admits(&to, "100.64.0.3", "100.64.0.1"));
    }
    let denied = r#""acls": [{"action": "deny", "src": ["alice@"], "dst": ["*:*"]}, {"action": "accept", "src": ["*"], "dst": ["*:*"]}]"#;
    assert!(!admits(&load(denied, OURS), "100.64.0.1", "100.64.0.3"));
    // Without an alias, the login that may be meant is named; in a deny the policy is refused.
    let inventory = INVENTORY.replace(r#", "aliases": ["alice@"]"#, "");
    let told = |policy: &str| {
        let policy = Source::new("p", &format!("{{\"tagOwners\": {{\"tag:srv\": []}},\n{policy}}}"));
        let loaded = Loaded::new(policy, Some(Source::new("i", &inventory)), &Scope::default());
        (loaded.findings.to_string(), loaded.findings.has_errors())
    };
    let (note, refused) = told(r#""acls": [{"action": "accept", "src": ["alice@"], "dst": ["tag:srv:22"]}]"#);
    assert!(note.contains(r#"does "alice@" mean "alice@example.com"?"#) && !refused, "{note}");
    let (error, refused) = told(denied);
    assert!(error.contains(r#"did you mean "alice@example.com"?"#) && refused, "{error}");
}
