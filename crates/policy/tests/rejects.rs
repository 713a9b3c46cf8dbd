//! `onDeny`: where it may stand, and whom it speaks to.

use bulkhead_abi::Direction;
use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::compile::{Limits, compile, compile_loopback};
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::inventory::Network;
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::source::Source;

const INVENTORY: &str = r#"{"nodes": [
  {"name": "desk", "addresses": ["100.64.0.1", "fd7a::1"], "tags": ["tag:desk"]},
  {"name": "db", "addresses": ["100.64.0.2", "fd7a::2"], "tags": ["tag:db"]},
]}"#;

fn load(policy: &str) -> Loaded {
    let scope = Scope::default();
    let text = format!(r#"{{"tagOwners": {{"tag:desk": [], "tag:db": []}}, {policy}}}"#);
    Loaded::new(Source::new("policy", &text), Some(Source::new("inventory", INVENTORY)), &scope)
}

fn errors(policy: &str) -> Vec<String> {
    load(policy).findings.0.iter().map(ToString::to_string).collect()
}

/// Whether the database's host tells who begins this of its denial.
fn is_told(policy: &str, source: &str, port: u16) -> bool {
    let loaded = load(policy);
    assert!(!loaded.findings.has_errors(), "{:?}", loaded.findings.0);
    let (ruleset, inventory) = (loaded.ruleset.expect("rules"), loaded.inventory.expect("nodes"));
    let source = source.parse().expect("an address");
    let destination = if matches!(source, std::net::IpAddr::V4(_)) { "100.64.0.2" } else { "fd7a::2" };
    let probe = Probe { source, destination: destination.parse().expect("an address"), protocol: 6, port };
    let program = compile(&ruleset, &inventory, "db", Limits::default()).expect("tables");
    let found = evaluate(&environment(&program.tables, 0), Direction::Ingress, &probe);
    let node = inventory.node("db").expect("the node");
    let wanted = reference::rejects(&ruleset, &inventory, node, Direction::Ingress, &probe, 0);
    assert_eq!(found.rejects, wanted, "{policy} {source} {port}");
    wanted
}

const DENY: &str = r#"{"action": "deny", "src": ["*"], "dst": ["tag:db:22"]"#;

#[test]
fn a_rule_says_it_or_the_policy_does() {
    let rule = |on_deny: &str| format!("{DENY}{on_deny}}}");
    let (reject, drop) = (r#", "onDeny": "reject""#, r#", "onDeny": "drop""#);
    for (default, on_rule, denied, undecided) in [
        ("", "", false, false),
        ("", reject, true, false),
        ("", drop, false, false),
        (r#""onDeny": "drop", "#, "", false, false),
        (r#""onDeny": "reject", "#, "", true, true),
        (r#""onDeny": "reject", "#, drop, false, true),
        (r#""onDeny": "reject", "#, reject, true, true),
    ] {
        for source in ["100.64.0.1", "fd7a::1"] {
            let policy = format!(r#"{default}"acls": [{}]"#, rule(on_rule));
            assert_eq!(is_told(&policy, source, 22), denied, "{policy}");
            assert_eq!(is_told(&policy, source, 23), undecided, "{policy}");
        }
        // Nobody tells strangers anything, though a deny of everybody is about them.
        let policy = format!(r#"{default}"acls": [{}]"#, rule(on_rule));
        assert!(!is_told(&policy, "203.0.113.1", 22) && !is_told(&policy, "203.0.113.1", 23), "{policy}");
    }
    let grants = r#""acls": [], "grants": [{"action": "deny", "onDeny": "reject", "src": ["*"], "dst": ["tag:db"], "ip": ["22"]}]"#;
    assert!(is_told(grants, "100.64.0.1", 22) && !is_told(grants, "100.64.0.1", 23));
}

#[test]
fn what_is_admitted_and_what_ends_is_as_before() {
    let accept =
        r#""onDeny": "reject", "acls": [{"action": "accept", "src": ["tag:desk"], "dst": ["tag:db:22"]}]"#;
    assert!(!is_told(accept, "100.64.0.1", 22));
    assert!(is_told(accept, "100.64.0.1", 23));
}

#[test]
fn where_it_has_no_meaning_it_is_refused() {
    let all = errors(r#""acls": [{"action": "accept", "onDeny": "reject", "src": ["*"], "dst": ["*:*"]}]"#);
    assert!(all[0].contains("an accept has no onDeny: it denies nothing"), "{all:?}");
    let all = errors(r#""grants": [{"onDeny": "reject", "src": ["*"], "dst": ["*"], "ip": ["*"]}]"#);
    assert!(all.iter().any(|error| error.contains("an accept has no onDeny")), "{all:?}");
    for wrong in
        [r#""onDeny": "refuse", "acls": []"#.to_owned(), format!(r#""acls": [{DENY}, "onDeny": "RST"}}]"#)]
    {
        let all = errors(&wrong);
        assert!(all[0].contains("unknown onDeny") && all[0].contains("reject answers by"), "{all:?}");
    }
    assert!(!errors(r#""onDeny": true, "acls": []"#).is_empty());
    let scope = Scope { dialect: Dialect::Tailscale, ..Scope::default() };
    let policy = Source::new("policy", r#"{"onDeny": "reject", "acls": []}"#);
    let loaded = Loaded::new(policy, Some(Source::new("inventory", INVENTORY)), &scope);
    assert!(loaded.findings.has_errors(), "Tailscale's language does not have it");
}

#[test]
fn on_lo_and_on_exchange_interfaces_nothing_is_told() {
    let loaded = load(r#""onDeny": "reject", "acls": []"#);
    let (ruleset, inventory) = (loaded.ruleset.expect("rules"), loaded.inventory.expect("nodes"));
    let tables = compile_loopback(&ruleset, &inventory, "db", Limits::default()).expect("tables").tables;
    assert_eq!(tables.features() & bulkhead_abi::FEATURE_REJECT, 0);
    let overlay = compile(&ruleset, &inventory, "db", Limits::default()).expect("tables").tables;
    assert_ne!(overlay.features() & bulkhead_abi::FEATURE_REJECT, 0);
    let policy = loaded.policy.expect("a policy");
    let mut findings = Default::default();
    let ruleset = bulkhead_policy::resolve::resolve(
        &policy,
        &inventory,
        Dialect::Bulkhead,
        Network::Underlay,
        &mut findings,
    );
    let exchange = compile(&ruleset, &inventory, "db", Limits::default()).expect("tables").tables;
    assert_eq!(exchange.features() & bulkhead_abi::FEATURE_REJECT, 0);
}
