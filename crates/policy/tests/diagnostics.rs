//! Bad input: what is said, where, and what to do about it.

use bulkhead_policy::diagnostic::{Findings, Severity};
use bulkhead_policy::inventory::{self, Network};
use bulkhead_policy::policy;
use bulkhead_policy::resolve::resolve;
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, boundaries, verify};

const INVENTORY: &str = r#"{"nodes": [
  {"name": "a", "addresses": ["100.64.0.1"], "tags": ["tag:a"]},
  {"name": "b", "addresses": ["100.64.0.2"], "tags": ["tag:b"]}],
 "users": [{"login": "alice@example.com"}]}"#;

const OWNERS: &str = r#""tagOwners": {"tag:a": [], "tag:b": []}"#;

/// Everything found, one 'file:line:column: message (help)' each.
fn findings(policy_text: &str, inventory_text: &str, dialect: Dialect) -> Vec<(Severity, String)> {
    let mut findings = Findings::default();
    let policy = policy::parse(&Source::new("p", policy_text), dialect, &mut findings);
    let inventory = inventory::parse(&Source::new("i", inventory_text), &mut findings);
    if let (Some(policy), Some(inventory)) = (policy, inventory) {
        let ruleset = resolve(&policy, &inventory, dialect, Network::Overlay, &mut findings);
        boundaries::check(&ruleset, &inventory, &mut findings);
        if !findings.has_errors() {
            verify::run(&ruleset, &inventory, 0, &mut findings);
        }
    }
    findings.sort();
    findings.0.iter().map(|finding| (finding.severity, finding.to_string())).collect()
}

fn errors(policy_text: &str, inventory_text: &str) -> Vec<String> {
    let all = findings(policy_text, inventory_text, Dialect::Bulkhead);
    all.into_iter().filter(|(severity, _)| *severity == Severity::Error).map(|(_, text)| text).collect()
}

fn rule_errors(rule: &str) -> Vec<String> {
    errors(&format!("{{\"acls\": [\n{rule}], {OWNERS}}}"), INVENTORY)
}

#[test]
fn every_mistake_is_found_at_once_at_its_place() {
    let policy = r#"{"acls": [
  {"action": "accept", "src": ["tag:aa"], "dst": ["tag:b:ssh", "tag:b:70000"]},
  {"action": "acept", "src": ["bob@example.com"], "dst": ["grup:b:22"], "prot": "tcp"},
 ],
 "tagOwners": {"tag:a": ["group:none"], "tag:b": []}, "grous": {}}"#;
    assert_eq!(
        errors(policy, INVENTORY),
        [
            r#"p:2:32: tag not found: "tag:aa" (did you mean "tag:a"?)"#,
            r#"p:2:51: port range "ssh": invalid first integer (ports are numbers, lists and ranges: 22, 80,443, 8000-8080, or * for all)"#,
            r#"p:2:64: port range "70000": invalid first integer: 70000 is above 65535"#,
            r#"p:3:14: unknown action "acept" (an action is accept or deny)"#,
            r#"p:3:59: "grup:b" is no selector (a selector is *, tag:…, group:…, autogroup:…, ipset:…, spiffe://…, a user's login, an address, a prefix, or a name from hosts)"#,
            r#"p:3:73: unknown field "prot" in a rule of acls (did you mean "proto"?)"#,
            r#"p:5:26: group not found: "group:none" (owners of a tag are logins, groups, autogroups and other tags)"#,
            r#"p:5:55: unknown field "grous" in a policy (did you mean "groups"?)"#,
        ]
    );
}

#[test]
fn names_that_resolve_to_nothing_are_errors_with_suggestions() {
    let one =
        |src: &str| rule_errors(&format!(r#"{{"action": "accept", "src": ["{src}"], "dst": ["tag:b:22"]}}"#));
    assert_eq!(one("b"), [r#"p:2:30: host not found: "b" (did you mean "tag:b"?)"#]);
    // A login that no device has admits nobody: a note, which says what may be meant.
    assert_eq!(one("alicee@example.com"), [""; 0]);
    assert_eq!(
        one("autogroup:membr"),
        [r#"p:2:30: unknown autogroup "autogroup:membr" (did you mean "autogroup:member"?)"#]
    );
    assert_eq!(one("autogroup:self"), [r#"p:2:30: "autogroup:self" not valid on the src side of a rule"#]);
    assert_eq!(one("tag:a"), [""; 0]);
}

#[test]
fn absent_empty_and_unreadable_are_three_things() {
    assert_eq!(errors("{}", INVENTORY).len(), 1);
    assert!(errors("{}", INVENTORY)[0].contains("neither \"acls\" nor \"grants\""));
    assert!(errors("", INVENTORY)[0].contains("the file is empty"));
    assert!(errors("{\"acls\": [", INVENTORY)[0].contains("not valid HuJSON"));
    assert!(errors("[]", INVENTORY)[0].contains("a policy is a JSON object"));
    assert_eq!(errors(&format!("{{\"acls\": [], {OWNERS}}}"), INVENTORY), [""; 0]);
    // Tailscale's own default is to allow.
    let tailscale = findings(&format!("{{{OWNERS}}}"), INVENTORY, Dialect::Tailscale);
    assert!(matches!(&tailscale[..], [(Severity::Warning, text)] if text.contains("everything is allowed")));
}

#[test]
fn a_key_given_twice_is_an_error_at_both_places() {
    let text = "{\"acls\": [],\n \"acls\": [{\"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"*:*\"]}]}";
    let mut found = Findings::default();
    policy::parse(&Source::new("p", text), Dialect::Bulkhead, &mut found);
    assert_eq!(found.to_string(), "p:2:2: \"acls\" is given twice");
    assert_eq!(found.0[0].related[0].location.to_string(), "p:1:2");
}

#[test]
fn inventories_are_checked() {
    let policy = format!("{{\"acls\": [], {OWNERS}}}");
    let node = |fields: &str| errors(&policy, &format!("{{\"nodes\": [\n{{\"name\": \"a\", {fields}}}]}}"));
    assert!(
        node(r#""addresses": ["100.64.0.1/32"]"#)[0].starts_with("i:2:29: \"100.64.0.1/32\" is no address")
    );
    assert!(node(r#""addresses": [], "key": "AAAA""#)[0].contains("is no WireGuard key"));
    let told = node(r#""addresses": [], "keys": ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=", "AAAA"]"#);
    assert!(told[0].starts_with("i:2:89: \"AAAA\" is no WireGuard key"), "{told:?}");
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=";
    let keys = format!(
        r#"{{"nodes": [{{"name": "a", "key": "{key}", "addresses": []}},
  {{"name": "b", "keys": ["{}", "{key}"], "addresses": []}}]}}"#,
        key.replace('E', "I")
    );
    assert!(
        errors(&policy, &keys)[0].starts_with("i:2:74: the key is held by a and by b"),
        "{:?}",
        errors(&policy, &keys)
    );
    assert!(node(r#""addresses": [], "adresses": []"#)[0].contains("did you mean \"addresses\"?"));
    assert!(node(r#""tags": ["tag:a"]"#)[0].contains("has no \"addresses\""));
    assert!(node(r#""addresses": [], "tags": ["a"]"#)[0].contains("\"a\" is no tag"));
    assert!(node(r#""addresses": [], "tags": ["tag:a"], "user": "u@x.y""#)[0].contains("not both"));
    assert!(node(r#""addresses": [], "routes": ["10.0.0.1/8"]"#)[0].contains("write 10.0.0.0/8"));
    assert!(node(r#""addresses": [], "expires": "tomorrow""#)[0].contains("RFC 3339"));
    let twice = r#"{"nodes": [{"name": "a", "addresses": ["100.64.0.1"]},
      {"name": "b", "addresses": ["100.64.0.1"]}]}"#;
    assert!(errors(&policy, twice)[0].starts_with("i:2:35: 100.64.0.1 is held by a and by b"));
}

#[test]
fn a_selector_that_matches_nobody_is_a_warning() {
    let policy = r#"{"acls": [{"action": "accept", "src": ["tag:c"], "dst": ["tag:b:22", "tag:c:22"]}],
        "tagOwners": {"tag:a": [], "tag:b": [], "tag:c": []}}"#;
    let found = findings(policy, INVENTORY, Dialect::Bulkhead);
    assert_eq!(found, [(Severity::Warning, "p:1:40: tag:c matches nobody in the inventory".to_string())]);
}

#[test]
fn tests_fail_with_a_packet_and_the_rule() {
    let policy = format!(
        "{{\"acls\": [{{\"action\": \"accept\", \"src\": [\"tag:a\"], \"dst\": [\"tag:b:22\"]}}], {OWNERS},\n\
         \"tests\": [{{\"src\": \"tag:a\", \"accept\": [\"tag:b:22\", \"tag:b:80\"], \"deny\": [\"tag:b:22\", \"tag:b:81\"]}}]}}"
    );
    assert_eq!(
        errors(&policy, INVENTORY),
        [
            "p:2:51: test failed: a (100.64.0.1) to b (100.64.0.2):80/tcp must be admitted and is denied (no rule is about it)",
            "p:2:73: test failed: a (100.64.0.1) to b (100.64.0.2):22/tcp must be denied and is admitted",
        ]
    );
}

#[test]
fn tag_owners_that_go_in_circles_are_warned_of() {
    let policy = r#"{"acls": [], "tagOwners": {"tag:a": ["tag:b"], "tag:b": ["tag:a"], "tag:c": ["tag:c"]}}"#;
    for dialect in [Dialect::Bulkhead, Dialect::Tailscale] {
        let found = findings(policy, INVENTORY, dialect);
        let warns = |(severity, text): &(Severity, String)| {
            *severity == Severity::Warning && text.contains("circular reference")
        };
        assert!(found.len() == 2 && found.iter().all(warns), "{found:?}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("{{\"acls\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(errors(&deep, INVENTORY)[0].contains("not valid HuJSON"));
}

#[test]
fn what_two_nodes_claim_is_shown_at_both_places() {
    let policy = format!("{{\"acls\": [], {OWNERS}}}");
    let key = "3rRgWctVJdi9D2mcB2GqQ/DGIlNqhzt0DT7beAa39Fo=";
    let inventory = format!(
        r#"{{"nodes": [
{{"name": "a", "key": "{key}", "addresses": ["fd7a:0::1"]}},
{{"name": "b", "key": "{key}", "addresses": ["fd7a::1", "10.0.0.1"]}},
{{"addresses": ["10.0.0.2", "10.0.0.2"], "name": "a"}}, // a comment
]}}"#
    );
    assert_eq!(
        errors(&policy, &inventory),
        [
            "i:3:22: the key is held by a and by b (an address or key stands for one identity: remove it from one of them)",
            "i:3:84: fd7a::1 is held by a and by b (an address or key stands for one identity: remove it from one of them)",
            "i:4:28: 10.0.0.2 is held by a twice (an address or key stands for one identity: remove it from one of them)",
            "i:4:49: the name is held by two nodes named a (an address or key stands for one identity: remove it from one of them)",
        ]
    );
}

#[test]
fn errors_before_a_syntax_error_in_a_long_list_are_said_too() {
    let policy = format!("{{\"acls\": [], {OWNERS}}}");
    let found = errors(&policy, "{\"nodes\": [{\"name\": \"a\", \"addresses\": [\"x\"]},\n {\"name\": }]}");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("i:1:40: \"x\" is no address"), "{found:?}");
    assert_eq!(found[1], "i:2:11: not valid HuJSON: expected a value, this is \"}\"");
    // A second list of nodes is refused, not added.
    let twice = r#"{"nodes": [{"name": "a", "addresses": []}], "nodes": [{"name": "b", "addresses": []}]}"#;
    assert_eq!(errors(&policy, twice), ["i:1:45: \"nodes\" is given twice"]);
}

#[test]
fn a_test_is_tried_between_all_nodes_of_a_class() {
    // The first and the last address of the class are one node's.
    let inventory = r#"{"nodes": [
      {"name": "x", "addresses": ["100.64.0.1", "100.64.0.9"], "tags": ["tag:a"]},
      {"name": "y", "addresses": ["100.64.0.5"], "tags": ["tag:a"]}]}"#;
    let policy = format!(
        "{{\"acls\": [{{\"action\": \"accept\", \"src\": [\"tag:a\"], \"dst\": [\"tag:a:22\"]}}], {OWNERS},
          \"tests\": [{{\"src\": \"tag:a\", \"deny\": [\"tag:a:22\"]}}]}}"
    );
    assert_eq!(
        errors(&policy, inventory),
        ["p:2:47: test failed: x (100.64.0.1) to y (100.64.0.5):22/tcp must be denied and is admitted"]
    );
}

#[test]
fn what_a_failed_test_shows_is_a_packet() {
    let inventory = r#"{"nodes": [
      {"name": "x", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "user": "x@y.z"},
      {"name": "y", "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "tags": ["tag:a"]}]}"#;
    let of = |rule: &str, wanted: &str, to: &str, inventory: &str| {
        let policy = format!(
            "{{\"tagOwners\": {{\"tag:a\": []}}, \"acls\": [{rule}],\n\"tests\": [{{\"src\": \"x@y.z\", \"proto\": \"1\", \"{wanted}\": [\"{to}:0\"]}}]}}"
        );
        let found = findings(&policy, inventory, Dialect::Tailscale);
        let errors = found.into_iter().filter(|(severity, _)| *severity == Severity::Error);
        errors.map(|(_, text)| text).collect::<Vec<_>>().join("\n")
    };
    let all = r#"{"action": "accept", "src": ["*"], "dst": ["*:*"]}"#;
    for to in ["1.2.3.4", "tag:a"] {
        let text = of(all, "deny", to, inventory);
        assert!(text.contains("x (100.64.0.1) to ") && !text.contains("fd7a"), "{text}");
        let text = of("", "accept", to, inventory);
        assert!(text.contains("x (100.64.0.1) to ") && !text.contains("fd7a"), "{text}");
    }
    // Where there is no packet, no address is shown as if there were.
    let six = inventory.replace("\"100.64.0.1\", ", "");
    let text = of(all, "deny", "1.2.3.4", &six);
    assert!(text.contains("test failed: x to 1.2.3.4:0/icmp must be denied"), "{text}");
}

#[test]
fn one_misspelt_login_in_a_deny_is_told_of_once() {
    let inventory = r#"{"nodes": [{"name": "a", "addresses": ["100.64.0.1"], "user": "alice@example.com"}]}"#;
    let policy = r#"{"groups": {"group:x": ["alise@example.com"]},
        "acls": [{"action": "deny", "src": ["group:x"], "dst": ["*:22"]}, {"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"#;
    let found = findings(policy, inventory, Dialect::Bulkhead);
    let told: Vec<_> =
        found.iter().filter(|(_, text)| text.contains("alise") || text.contains("group:x")).collect();
    assert!(matches!(&told[..], [(Severity::Error, text)] if text.contains("did you mean")), "{found:?}");
}
