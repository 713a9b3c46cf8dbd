//! The whole of the language, construct by construct: what is admitted, and what is refused.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod refusals;

use bulkhead_abi::Direction;
use bulkhead_engine::Reason;
use bulkhead_policy::compile::{Limits, compile};
use bulkhead_policy::diagnostic::{Findings, Severity};
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::inventory::{self, Inventory, Network};
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::resolve::{Ruleset, resolve};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, policy, verify};

const INVENTORY: &str = r#"{"nodes": [
  {"name": "alice-mac", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "user": "Alice@Example.com",
   "posture": {"node:os": "macos", "node:osVersion": "14.2", "custom:managed": true}},
  {"name": "alice-old", "addresses": ["100.64.0.2"], "user": "alice@example.com", "posture": {"node:os": "macos", "node:osVersion": "12.0"}},
  {"name": "bob-pc", "addresses": ["100.64.0.3"], "user": "bob@other.org"},
  {"name": "web", "addresses": ["100.64.0.4", "fd7a:115c:a1e0::4"], "tags": ["tag:web"]},
  {"name": "router-1", "addresses": ["100.64.0.5"], "tags": ["tag:router"], "routes": ["10.1.0.0/16", "10.9.0.0/16"]},
  {"name": "router-2", "addresses": ["100.64.0.6"], "tags": ["tag:backup"], "routes": ["10.1.0.0/16"]},
  {"name": "exit", "addresses": ["100.64.0.7"], "tags": ["tag:exit"], "routes": ["0.0.0.0/0", "::/0"]}],
 "users": [{"login": "alice@example.com", "roles": ["admin"]}, {"login": "bob@other.org", "roles": ["shared"]}]}"#;

const NAMES: &str = r#"
 "tagOwners": {"tag:web": [], "tag:router": [], "tag:backup": [], "tag:exit": []},
 "groups": {"group:staff": ["ALICE@example.com", "bob@other.org"]},
 "hosts": {"legacy": "10.1.7.0/24"},
 "ipsets": {"ipset:core": ["10.1.0.0/16", "remove 10.1.5.0-10.1.5.9", "add 10.1.5.3", "remove ipset:lab"],
            "ipset:lab": ["host:legacy"], "ipset:world": ["autogroup:internet", "remove 8.8.8.0/24"]},
 "postures": {"posture:mac14": ["node:os == 'macos'", "node:osVersion >= '14'"], "posture:managed": ["custom:managed"],
              "posture:linux": ["node:os IN ['linux']"]}"#;

fn load(policy_text: &str, dialect: Dialect) -> (Option<Ruleset>, Inventory, Findings) {
    let mut findings = Findings::default();
    let inventory = inventory::parse(&Source::new("i", INVENTORY), &mut findings).unwrap();
    let policy = policy::parse(&Source::new("p", policy_text), dialect, &mut findings);
    let ruleset = policy.map(|policy| resolve(&policy, &inventory, dialect, Network::Overlay, &mut findings));
    (ruleset, inventory, findings)
}

fn policy_of(rules: &str) -> String {
    format!("{{{rules},\n{NAMES}}}")
}

/// Whether TCP to a port passes at a node's ingress; tables and reference agree.
fn ingress(rules: &str, dialect: Dialect, node: &str, source: &str, destination: &str, port: u16) -> bool {
    let (ruleset, inventory, findings) = load(&policy_of(rules), dialect);
    assert!(!findings.has_errors(), "{findings}");
    let ruleset = ruleset.unwrap();
    let program = compile(&ruleset, &inventory, node, Limits::default()).unwrap();
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    let probe = Probe { source, destination, protocol: 6, port };
    let found = evaluate(&environment(&program.tables, 0), Direction::Ingress, &probe).reason == Reason::Rule;
    let node = inventory.node(node).unwrap();
    let wanted = reference::judge(&ruleset, &inventory, node, Direction::Ingress, &probe, 0).allows();
    assert_eq!(found, wanted, "{probe:?}");
    found
}

/// What reaches the web server on port 80 under one rule, of the three devices of users.
fn reaching(rule: &str, dialect: Dialect) -> Vec<&'static str> {
    let devices = [("alice-mac", "100.64.0.1"), ("alice-old", "100.64.0.2"), ("bob-pc", "100.64.0.3")];
    let reach = |address: &str| ingress(rule, dialect, "web", address, "100.64.0.4", 80);
    devices.into_iter().filter(|(_, address)| reach(address)).map(|(name, _)| name).collect()
}

fn errors(rules: &str, dialect: Dialect) -> Vec<String> {
    let (ruleset, inventory, mut findings) = load(&policy_of(rules), dialect);
    if let (Some(ruleset), false) = (ruleset, findings.has_errors()) {
        verify::run(&ruleset, &inventory, 0, &mut findings);
    }
    findings.sort();
    messages(findings)
}

/// The errors of a whole file, read and resolved.
fn errors_of_file(text: &str) -> Vec<String> {
    messages(load(text, OURS).2)
}

fn messages(findings: Findings) -> Vec<String> {
    let errors = findings.0.into_iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| finding.message).collect()
}

const OURS: Dialect = Dialect::Bulkhead;
const THEIRS: Dialect = Dialect::Tailscale;

#[test]
fn postures_cut_a_rules_sources_down_to_devices_that_meet_any_of_them() {
    let rule = |src: &str, posture: &str| {
        format!(
            r#""acls": [{{"action": "accept", "src": ["{src}"], "dst": ["tag:web:80"], "srcPosture": [{posture}]}}]"#
        )
    };
    for dialect in [OURS, THEIRS] {
        assert_eq!(reaching(&rule("group:staff", r#""posture:mac14""#), dialect), ["alice-mac"]);
        assert_eq!(reaching(&rule("group:staff", r#""posture:linux""#), dialect), [""; 0]);
        assert_eq!(
            reaching(&rule("group:staff", r#""posture:linux", "posture:managed""#), dialect),
            ["alice-mac"]
        );
        assert_eq!(reaching(&rule("group:staff", ""), dialect), ["alice-mac", "alice-old", "bob-pc"]);
    }
    // An address that is no device's has no posture: Tailscale admits it, we do not.
    let behind = rule("10.1.0.0/16", r#""posture:mac14""#);
    assert!(!ingress(&behind, OURS, "web", "10.1.2.3", "100.64.0.4", 80));
    assert!(ingress(&behind, THEIRS, "web", "10.1.2.3", "100.64.0.4", 80));
}

#[test]
fn the_default_posture_is_for_rules_without_one() {
    let rules = |posture: &str| {
        format!(
            r#""defaultSrcPosture": ["posture:mac14"],
               "grants": [{{"src": ["group:staff"], "dst": ["tag:web"], "ip": ["80"]{posture}}}]"#
        )
    };
    assert_eq!(reaching(&rules(""), OURS), ["alice-mac"]);
    assert_eq!(reaching(&rules(r#", "srcPosture": ["posture:linux"]"#), OURS), [""; 0]);
}

#[test]
fn a_posture_that_is_not_there_is_an_error_and_admits_nothing() {
    let rule = r#"{"action": "accept", "src": ["*"], "dst": ["*:*"], "srcPosture": ["posture:mac15"]}"#;
    assert_eq!(errors(&format!("\"acls\": [{rule}]"), OURS), ["posture not found: \"posture:mac15\""]);
    assert_eq!(
        errors(r#""acls": [], "defaultSrcPosture": ["posture:x"]"#, OURS),
        ["posture not found: \"posture:x\""]
    );
    let deny =
        r#""acls": [{"action": "deny", "src": ["*"], "dst": ["*:*"], "srcPosture": ["posture:mac14"]}]"#;
    assert_eq!(errors(deny, OURS), ["a deny has no srcPosture"]);
}

#[test]
fn tests_may_assume_a_device() {
    let rules = |attributes: &str, list: &str| {
        format!(
            r#""acls": [{{"action": "accept", "src": ["bob@other.org"], "dst": ["tag:web:80"], "srcPosture": ["posture:mac14"]}}],
               "tests": [{{"src": "bob@other.org", "srcPostureAttrs": {{{attributes}}}, "{list}": ["tag:web:80"]}}]"#
        )
    };
    let mac = r#""node:os": "macos", "node:osVersion": "14.0""#;
    for dialect in [OURS, THEIRS] {
        assert_eq!(errors(&rules(mac, "accept"), dialect), [""; 0]);
        assert_eq!(errors(&rules("", "deny"), dialect), [""; 0]);
        assert_eq!(errors(&rules(mac, "deny"), dialect).len(), 1);
        assert_eq!(errors(&rules("", "accept"), dialect).len(), 1);
    }
    assert_eq!(
        errors(&rules(r#""node:os": ["macos"]"#, "accept"), OURS),
        ["the attribute \"node:os\" must be a string, a number, true or false"]
    );
}

#[test]
fn ip_sets_add_and_remove_in_order() {
    let rule = r#""acls": [{"action": "accept", "src": ["ipset:core"], "dst": ["tag:web:80"]}]"#;
    let reaches = |source| ingress(rule, OURS, "web", source, "100.64.0.4", 80);
    for source in ["10.1.0.0", "10.1.4.255", "10.1.5.3", "10.1.5.10", "10.1.255.255"] {
        assert!(reaches(source), "{source}");
    }
    for source in
        ["10.0.255.255", "10.1.5.0", "10.1.5.2", "10.1.5.4", "10.1.5.9", "10.1.7.0", "10.1.7.255", "10.2.0.0"]
    {
        assert!(!reaches(source), "{source}");
    }
    let world = r#""grants": [{"src": ["group:staff"], "dst": ["ipset:world"], "ip": ["443"]}]"#;
    let exits = |destination| ingress(world, OURS, "exit", "100.64.0.1", destination, 443);
    assert!(exits("1.1.1.1") && !exits("8.8.8.8") && !exits("10.3.0.1"));
}

#[test]
fn ip_sets_that_cannot_be_are_refused() {
    let of = |sets: &str| {
        let text = format!("{{\"acls\": [], \"ipsets\": {{{sets}}}}}");
        errors_of_file(&text)
    };
    assert_eq!(
        of(r#""ipset:a": ["ipset:b"], "ipset:b": ["remove ipset:a"]"#),
        [
            "circular reference: \"ipset:a\" is made of itself",
            "circular reference: \"ipset:b\" is made of itself"
        ]
    );
    assert_eq!(
        of(r#""ipset:a": ["ipset:c", "host:x"]"#),
        ["ipset not found: \"ipset:c\"", "host not found: \"x\""]
    );
    assert_eq!(of(r#""a": ["10.0.0.1"]"#), ["\"a\" is no name for ipsets"]);
    assert_eq!(of(r#""ipset:a": ["tag:web"]"#), ["\"tag:web\" cannot be in an IP set"]);
    let unknown = r#""acls": [{"action": "accept", "src": ["ipset:croe"], "dst": ["*:*"]}]"#;
    assert_eq!(errors(unknown, OURS), ["ipset not found: \"ipset:croe\""]);
}

#[test]
fn users_by_login_domain_and_role_in_any_case() {
    let rule =
        |src: &str| format!(r#""acls": [{{"action": "accept", "src": ["{src}"], "dst": ["tag:web:80"]}}]"#);
    let reach = |src: &str| reaching(&rule(src), OURS);
    assert_eq!(reach("user:*@example.com"), ["alice-mac", "alice-old"]);
    assert_eq!(reach("user:*@OTHER.org"), ["bob-pc"]);
    assert_eq!(reach("ALICE@EXAMPLE.COM"), ["alice-mac", "alice-old"]);
    assert_eq!(reach("group:staff"), ["alice-mac", "alice-old", "bob-pc"]);
    assert_eq!(reach("autogroup:admin"), ["alice-mac", "alice-old"]);
    assert_eq!(reach("autogroup:shared"), ["bob-pc"]);
    assert_eq!(reach("autogroup:owner"), [""; 0]);
    // Tailscale takes field names, protocols and both of the older names in any case.
    let old = r#""ACLs": [{"Action": "accept", "Users": ["bob@other.org"], "Ports": ["tag:web:80"], "Proto": "TCP"}]"#;
    assert_eq!(reaching(old, THEIRS), ["bob-pc"]);
    assert_eq!(errors(r#""acls": [], "ACLS": []"#, OURS), ["\"ACLS\" is given twice"]);
}

#[test]
fn own_devices_are_of_the_same_user() {
    let rule = |src: &str| {
        format!(r#""acls": [{{"action": "accept", "src": ["{src}"], "dst": ["autogroup:self:22"]}}]"#)
    };
    for src in ["user:*@example.com", "autogroup:member", "*"] {
        assert!(ingress(&rule(src), OURS, "alice-old", "100.64.0.1", "100.64.0.2", 22), "{src}");
        assert!(!ingress(&rule(src), OURS, "alice-old", "100.64.0.3", "100.64.0.2", 22), "{src}");
        assert!(!ingress(&rule(src), OURS, "web", "100.64.0.1", "100.64.0.4", 22), "{src}");
    }
    let grant = r#""grants": [{"src": ["*"], "dst": ["autogroup:self"], "ip": ["22"]}]"#;
    assert_eq!(
        errors(grant, OURS),
        ["autogroup:self can only be used with users, groups, or supported autogroups"]
    );
}

#[test]
fn via_admits_at_the_routers_that_carry_the_tag() {
    let grant = |dst: &str, via: &str| {
        format!(
            r#""grants": [{{"src": ["group:staff"], "dst": ["{dst}"], "ip": ["tcp:443"], "via": ["{via}"]}}]"#
        )
    };
    let at = |rules: &str, node, destination| ingress(rules, OURS, node, "100.64.0.1", destination, 443);
    for dst in ["10.0.0.0/8", "10.1.0.0/16", "10.1.7.0/24", "legacy", "ipset:lab"] {
        assert!(at(&grant(dst, "tag:router"), "router-1", "10.1.7.7"), "{dst}");
        // The other router has the same route, and is not named.
        assert!(!at(&grant(dst, "tag:router"), "router-2", "10.1.7.7"), "{dst}");
        assert!(at(&grant(dst, "tag:backup"), "router-2", "10.1.7.7"), "{dst}");
    }
    assert!(!at(&grant("10.1.7.0/24", "tag:router"), "router-1", "10.1.8.7"));
    assert!(!at(&grant("10.0.0.0/8", "tag:router"), "router-1", "100.64.0.5"));
    // Each router admits what it routes itself, not what another of the tag does.
    assert!(!at(&grant("10.0.0.0/8", "tag:backup"), "router-2", "10.9.0.1"));
    // Whoever holds an address is not behind a router.
    assert!(!at(&grant("*", "tag:router"), "router-1", "10.1.7.7"));
    let internet = grant("autogroup:internet", "tag:exit");
    assert!(at(&internet, "exit", "1.1.1.1") && !at(&internet, "exit", "10.1.0.1"));
    assert!(!at(&grant("autogroup:internet", "tag:router"), "exit", "1.1.1.1"));
    let none = r#""grants": [{"src": ["*"], "dst": ["legacy"], "ip": ["*"], "via": null}]"#;
    assert!(at(none, "router-2", "10.1.7.7"));
}

#[test]
fn what_a_grant_refuses() {
    let grant = |fields: &str| errors(&format!(r#""grants": [{{"src": ["*"], {fields}}}]"#), THEIRS);
    assert_eq!(
        grant(r#""dst": ["tag:web"], "ip": ["*"], "via": ["group:staff"]"#)[0],
        "via can only be a tag"
    );
    assert_eq!(
        grant(r#""dst": ["legacy"], "ip": ["*"], "via": ["tag:none"]"#),
        ["tag \"tag:none\" not found"]
    );
    assert_eq!(grant(r#""dst": ["tag:web"]"#), ["ip and app can not both be empty"]);
    assert_eq!(grant(r#""dst": ["tag:web"], "ip": []"#), ["ip and app can not both be empty"]);
    assert_eq!(grant(r#""dst": ["tag:web"], "ip": [], "app": {"example.com/cap/x": [{}]}"#), [""; 0]);
    assert_eq!(
        grant(
            r#""dst": ["tag:web"], "app": {"https://example.com/cap": [{}], "tailscale.com/cap/ingress": [{}], "tailscale.com/cap/drive": [{}]}"#
        ),
        [
            "capability name must have the form {domain}/{path}",
            "capability name must not be in the tailscale.com domain"
        ]
    );
    assert_eq!(
        grant(r#""dst": ["autogroup:internet"], "app": {"example.com/cap/x": [{}]}, "ip": ["*"]"#),
        ["cannot use app grants with autogroup:internet"]
    );
    assert_eq!(
        grant(r#""dst": ["0.0.0.0/0"], "ip": ["*"]"#),
        ["dst \"0.0.0.0/0\": to allow all IP addresses, use \"*\" or \"autogroup:internet\""]
    );
    assert_eq!(
        grant(r#""dst": ["autogroup:danger-all"], "ip": ["*"]"#),
        ["cannot use autogroup:danger-all as a dst"]
    );
}
