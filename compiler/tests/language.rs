//! The whole of the language, construct by construct: what is admitted, and what is refused.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use bulkhead_compiler::compile::{Limits, compile};
use bulkhead_compiler::diagnostic::{Findings, Severity};
use bulkhead_compiler::evaluate::{environment, evaluate};
use bulkhead_compiler::inventory::{self, Inventory, Network};
use bulkhead_compiler::reference::{self, Probe};
use bulkhead_compiler::resolve::{Ruleset, resolve};
use bulkhead_compiler::source::Source;
use bulkhead_compiler::{Dialect, policy, verify};
use bulkhead_engine::Reason;
use bulkhead_engine::layout::Direction;

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
    let errors = findings.0.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| finding.message.clone()).collect()
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
        let (_, _, findings) = load(&text, OURS);
        findings
            .0
            .into_iter()
            .filter(|f| f.severity == Severity::Error)
            .map(|f| f.message)
            .collect::<Vec<_>>()
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

#[test]
fn tailscales_dialect_refuses_what_is_ours() {
    for rules in [
        r#""acls": [{"action": "deny", "src": ["*"], "dst": ["*:*"]}]"#,
        r#""acls": [{"action": "accept", "src": ["tag:*"], "dst": ["*:*"]}]"#,
        r#""acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"], "name": "x"}]"#,
        r#""acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"], "expires": "2030-01-01T00:00:00Z"}]"#,
        r#""grants": [{"action": "accept", "src": ["*"], "dst": ["*"], "ip": ["*"]}]"#,
    ] {
        assert!(!errors(rules, THEIRS).is_empty(), "{rules}");
        assert!(errors(rules, OURS).is_empty(), "{rules}");
    }
}

#[test]
fn tailscales_tests_are_of_one_host_and_one_port() {
    let test = |fields: &str| {
        let rules = r#""acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]"#;
        errors(&format!(r#"{rules}, "tests": [{{"src": "bob@other.org", {fields}}}]"#), THEIRS)
    };
    assert_eq!(test(r#""accept": ["tag:web:80"]"#), [""; 0]);
    for refused in [
        r#""proto": "tcp""#,
        r#""accept": []"#,
        r#""accept": ["tag:web:80-81"]"#,
        r#""accept": ["tag:web:*"]"#,
        r#""accept": ["10.1.0.0/16:80"]"#,
        r#""accept": ["autogroup:internet:80"]"#,
        r#""accept": ["tag:web:80"], "proto": "icmp""#,
        r#""deny": ["tag:web:80"]"#,
    ] {
        let found = test(refused);
        assert!(!found.is_empty() && found[0].starts_with("test(s) failed"), "{refused}: {found:?}");
    }
    // Denied is what not every source reaches: Tailscale's words for 'some'.
    let some = r#""acls": [{"action": "accept", "src": ["100.64.0.1"], "dst": ["tag:web:80"]}],
        "tests": [{"src": "alice@example.com", "deny": ["tag:web:80"]}]"#;
    assert_eq!(errors(some, THEIRS), [""; 0]);
    assert_eq!(errors(some, OURS).len(), 1);
}

#[test]
fn names_that_cannot_be_are_refused() {
    let of = |text: &str| {
        let (_, _, findings) = load(text, OURS);
        findings
            .0
            .into_iter()
            .filter(|f| f.severity == Severity::Error)
            .map(|f| f.message)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of(r#"{"acls": [], "groups": {"group:a": ["group:b"], "group:b": []}}"#),
        ["groups[\"group:a\"]: \"group:b\": group members cannot be recursive"]
    );
    assert_eq!(
        of(r#"{"acls": [], "tagOwners": {"tag:1a": []}}"#),
        ["tagOwners[\"tag:1a\"]: tag names must start with a letter, after 'tag:'"]
    );
    // A Cyrillic letter, and what only one dialect has.
    let letters =
        |tag: &str| format!("tagOwners[\"{tag}\"]: tag names can only contain numbers, letters, or dashes");
    assert_eq!(of("{\"acls\": [], \"tagOwners\": {\"tag:p\u{440}od\": []}}"), [letters("tag:p\u{440}od")]);
    assert_eq!(of(r#"{"acls": [], "tagOwners": {"tag:a_b.c-1": []}}"#), [""; 0]);
    assert_eq!(of(r#"{"acls": [], "tagOwners": {"tag:a b": []}}"#), [letters("tag:a b")]);
    let (_, _, findings) = load(r#"{"acls": [], "tagOwners": {"tag:a_b": []}}"#, THEIRS);
    assert!(findings.to_string().contains(&letters("tag:a_b")), "{findings}");
    assert_eq!(
        of(r#"{"acls": [], "postures": {"posture:a": []}}"#),
        ["\"posture:a\" asserts nothing: every device would meet it"]
    );
    // The other form, with what to tell whoever fails.
    let object = |inside: &str| of(&format!(r#"{{"acls": [], "postures": {{"posture:a": {{{inside}}}}}}}"#));
    assert_eq!(
        object(r#""assertions": ["node:os == 'linux'"], "onFailure": {"message": "update"}"#),
        [""; 0]
    );
    assert_eq!(object(r#""onFailure": {"message": "update"}"#), ["\"posture:a\" has no \"assertions\""]);
    assert_eq!(object(r#""assertions": []"#), ["\"posture:a\" asserts nothing: every device would meet it"]);
    assert!(object(r#""assertion": ["node:os == 'linux'"]"#)[0].contains("unknown field \"assertion\""));
    assert!(
        of(r#"{"acls": [], "postures": {"posture:a": ["node:os ~ 'x'"]}}"#)[0]
            .contains("no posture assertion")
    );
}

#[test]
fn our_sections_are_unknown_to_tailscale() {
    for section in ["\"venues\": {}", "\"boundaries\": []"] {
        assert_eq!(errors(&format!("\"acls\": [], {section}"), OURS), [""; 0]);
        assert!(errors(&format!("\"acls\": [], {section}"), THEIRS)[0].contains("unknown field"));
    }
}

#[test]
fn what_the_editor_notes_is_no_field_and_null_is_nothing() {
    let rule = |more: &str| {
        format!(r##""acls": [{{"#note": "x", "action": "accept", "src": ["*"], "dst": ["*:*"]{more}}}]"##)
    };
    for dialect in [OURS, THEIRS] {
        assert_eq!(errors(&rule(""), dialect), [""; 0]);
    }
    // Null is absent to Tailscale, and a mistake here; what has to be there is missing either way.
    assert_eq!(errors(&rule(r#", "proto": null, "srcPosture": null"#), THEIRS), [""; 0]);
    assert_eq!(errors(&rule(r#", "proto": null"#), OURS), ["proto must be a string, this is null"]);
    let nobody = r#""acls": [{"action": null, "src": ["*"], "dst": ["*:*"]}]"#;
    assert!(errors(nobody, THEIRS).contains(&"the rule has no \"action\"".to_string()));
    assert!(errors(nobody, OURS).len() == 2);
}

#[test]
fn grants_of_capabilities_are_checked_and_admit_nothing() {
    let grant = |src: &str, dst: &str| {
        format!(
            r#""grants": [{{"src": ["{src}"], "dst": ["{dst}"], "app": {{"example.com/cap/x": [{{}}]}}}}]"#
        )
    };
    for (src, dst, wanted) in [
        ("tag:none", "*", "tag not found: \"tag:none\""),
        ("autogroup:self", "*", "\"autogroup:self\" not valid on the src side of a rule"),
        (
            "tag:web",
            "autogroup:self",
            "autogroup:self can only be used with users, groups, or supported autogroups",
        ),
        ("*", "autogroup:internet", "cannot use app grants with autogroup:internet"),
    ] {
        for dialect in [OURS, THEIRS] {
            let found = errors(&grant(src, dst), dialect);
            assert!(found.iter().any(|error| error.ends_with(wanted)), "{src} {dst}: {found:?}");
        }
    }
    assert!(errors(&grant("*", "0.0.0.0/0"), THEIRS)[0].contains("to allow all IP addresses"));
    let fine = grant("alice@example.com", "tag:web");
    assert_eq!(errors(&fine, OURS), [""; 0]);
    assert!(!ingress(&fine, OURS, "web", "100.64.0.1", "100.64.0.4", 443));
}

#[test]
fn whatever_is_wrong_with_a_test_is_a_failed_test_to_tailscale() {
    let with = |test: &str| {
        format!(
            r#""acls": [{{"action": "accept", "src": ["tag:web"], "dst": ["legacy:80"]}}], "tests": [{test}]"#
        )
    };
    for test in [
        r#"{"src": "tag:none", "accept": ["legacy:80"]}"#,
        r#"{"src": "", "accept": ["legacy:80"]}"#,
        r#"{"accept": ["legacy:80"]}"#,
        r#"{"src": "tag:web", "accept": ["group:none:80"]}"#,
        r#"{"src": "tag:web", "accept": ["autogroup:self:80"]}"#,
        r#"{"src": "tag:web", "accept": ["nowhere:80"]}"#,
        // A host's name that stands for a network.
        r#"{"src": "tag:web", "accept": ["legacy:80"]}"#,
    ] {
        let found = errors(&with(test), THEIRS);
        assert!(
            !found.is_empty() && found.iter().all(|error| error.starts_with("test(s) failed: ")),
            "{test}: {found:?}"
        );
    }
    assert_eq!(errors(&with(r#"{"src": "tag:web", "accept": ["legacy:80"]}"#), OURS), [""; 0]);
}

#[test]
fn a_rules_ports_bind_its_echo_in_tailscales_tests() {
    let of = |proto: &str, port: u16| {
        let ports = if proto.is_empty() { "80" } else { "*" };
        errors(
            &format!(
                r#""acls": [{{"action": "accept", "src": ["tag:web"], "dst": ["100.64.0.5:{ports}"]{proto}}}],
                "tests": [{{"src": "100.64.0.4", "accept": ["100.64.0.5:{port}"]}}]"#
            ),
            THEIRS,
        )
    };
    assert_eq!(of("", 80), [""; 0]);
    assert_eq!(of("", 443).len(), 1);
    assert_eq!(of(r#", "proto": "icmp""#, 443), [""; 0]);
}

#[test]
fn what_looks_like_another_name_is_seen() {
    let found = |text: &str| {
        let (_, _, findings) = load(&format!("{{\"acls\": [], {text}}}"), OURS);
        let found = findings.0.iter().map(|finding| (finding.severity, finding.message.clone()));
        found.filter(|(_, said)| !said.contains(" carries ")).collect::<Vec<_>>()
    };
    for text in [
        "\"groups\": {\"group:\u{430}dmins\": []}",
        "\"hosts\": {\"\u{430}dmins\": \"10.0.0.1\"}",
        "\"ipsets\": {\"ipset:\u{430}dmins\": []}",
        "\"boundaries\": [{\"name\": \"\u{430}dmins\", \"between\": [[\"10.0.0.1\"], [\"10.0.0.2\"]]}]",
    ] {
        let warned = found(text);
        assert!(
            matches!(&warned[..], [(Severity::Warning, said)] if said.ends_with("characters that are not ASCII: U+0430")),
            "{text}: {warned:?}"
        );
    }
    // What is not seen at all is refused, in names and in values, and escaped where it is told.
    for text in [
        "\"groups\": {\"group:a\u{202e}b\": []}",
        "\"groups\": {\"group:a\": [\"alice\\u200b@example.com\"]}",
        "\"hosts\": {\"a\\u001b[2Jb\": \"10.0.0.1\"}",
        "\"\\u001b[2J\": 1",
    ] {
        let refused = found(text);
        assert_eq!(refused[0].0, Severity::Error, "{text}: {refused:?}");
        assert!(
            refused.iter().all(|(_, said)| said.chars().all(|c| !c.is_control() && c != '\u{202e}')),
            "{refused:?}"
        );
    }
}

#[test]
fn ssh_is_checked_in_tailscales_dialect_and_only_listed_in_ours() {
    let of = |rule: &str, test: &str, dialect| {
        errors(&format!(r#""acls": [], "ssh": [{rule}], "sshTests": [{test}]"#), dialect)
    };
    let rule = |more: &str| format!(r#"{{"src": ["alice@example.com"], "dst": ["tag:web"]{more}}}"#);
    for (more, wanted) in [
        (r#", "users": ["root"]"#, "action must be specified"),
        (r#", "users": ["root"], "action": "deny""#, "\"deny\" is not a valid action"),
        (r#", "action": "accept""#, "users must be specified"),
        (r#", "action": "accept", "users": null"#, "users must be specified"),
        (r#", "action": "accept", "users": ["a", "*"]"#, "user \"*\" is not valid"),
        (r#", "action": "accept", "users": ["a"], "acceptEnv": [""]"#, "acceptEnv values cannot be empty"),
        (
            r#", "action": "check", "users": ["a"], "checkPeriod": "169h""#,
            "checkPeriod 169h0m0s is above the max (168h)",
        ),
    ] {
        assert_eq!(of(&rule(more), "", THEIRS), [wanted], "{more}");
        assert_eq!(of(&rule(more), "", OURS), [""; 0]);
    }
    let nobody = r#"{"action": "accept", "src": ["tag:none"], "dst": ["legacy"], "users": ["root"]}"#;
    let mut found = of(nobody, "", THEIRS);
    found.sort();
    assert_eq!(found, ["invalid dst \"legacy\"", "tag not found: \"tag:none\""]);
}

#[test]
fn ssh_tests_ask_whom_the_rules_let_in() {
    let rules = r#"{"action": "accept", "src": ["group:staff"], "dst": ["tag:web"], "users": ["autogroup:nonroot"]},
        {"action": "check", "src": ["alice@example.com"], "dst": [" tag:web"], "users": ["root", "localpart:*@example.com"]},
        {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["me"]}"#;
    let asked =
        |test: &str| errors(&format!(r#""acls": [], "ssh": [{rules}], "sshTests": [{{{test}}}]"#), THEIRS);
    for holds in [
        r#""src": "alice@example.com", "dst": ["tag:web"], "accept": ["root", "alice", "deploy"], "check": ["root", "alice"]"#,
        r#""src": "bob@other.org", "dst": ["tag:web"], "accept": ["deploy"], "deny": ["root"]"#,
        r#""src": "alice@example.com", "dst": ["alice@example.com"], "accept": ["me"], "deny": ["root"]"#,
        r#""src": "alice@example.com", "dst": ["bob@other.org"], "deny": ["me"]"#,
        r#""src": "tag:web", "dst": ["tag:web", "100.64.0.4"], "deny": ["root", "deploy"]"#,
    ] {
        assert_eq!(asked(holds), [""; 0], "{holds}");
    }
    for fails in [
        r#""src": "bob@other.org", "dst": ["tag:web"], "accept": ["root"]"#,
        r#""src": "bob@other.org", "dst": ["tag:web"], "check": ["deploy"]"#,
        r#""src": "alice@example.com", "dst": ["tag:web"], "deny": ["alice"]"#,
        r#""src": "group:staff", "dst": ["tag:web"], "accept": ["root"]"#,
        r#""src": "alice@example.com", "dst": ["tag:web"]"#,
        r#""src": "alice@example.com", "dst": ["tag:web"], "accept": [""]"#,
        r#""dst": ["tag:web"], "accept": ["a"]"#,
        r#""src": "alice@example.com", "dst": [], "deny": ["a"]"#,
    ] {
        let found = asked(fails);
        let said = |error: &String| error.starts_with("test(s) failed: ");
        assert!(!found.is_empty() && found.iter().all(said), "{fails}: {found:?}");
    }
    for (dst, wanted) in [
        ("autogroup:internet", "SSH tests dst contains disallowed element \"autogroup:internet\""),
        ("100.64.0.0/24", "SSH tests dst contains disallowed element \"100.64.0.0/24\""),
        ("tag:web:22", "SSH tests dst contains unknown tag \"tag:web:22\""),
        ("tag:none", "SSH tests dst contains unknown tag \"tag:none\""),
    ] {
        let found = asked(&format!(r#""src": "alice@example.com", "dst": ["{dst}"], "deny": ["a"]"#));
        assert!(found.contains(&wanted.to_string()), "{found:?}");
    }
}
