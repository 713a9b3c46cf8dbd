//! Policies that are checked without an inventory: what could hold does not fail.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Answers, Loaded, Scope};
use bulkhead_policy::diagnostic::Severity;
use bulkhead_policy::source::Source;

const OURS: Dialect = Dialect::Bulkhead;
const THEIRS: Dialect = Dialect::Tailscale;

const TAGS: &str = r#""tagOwners": {"tag:srv": [], "tag:router": []}, "hosts": {"box": "100.64.77.7", "net": "10.7.0.0/16"},
    "groups": {"group:su": ["su@example.com"]},
    "ipsets": {"ipset:site": ["192.168.50.0/24", "10.5.0.3-10.5.0.9", "fd00:5::/64"], "ipset:all": ["ipset:site", "host:net"]}"#;

fn check(policy: &str, dialect: Dialect) -> (Loaded, Answers) {
    let policy = Source::new("p", &format!("{{{TAGS},\n{policy}}}"));
    let mut loaded = Loaded::new(policy, None, &Scope { dialect, ..Scope::default() });
    let answers = loaded.check(0);
    (loaded, answers)
}

fn told(policy: &str, dialect: Dialect, severity: Severity) -> Vec<String> {
    let (loaded, _) = check(policy, dialect);
    let found = loaded.findings.0.iter().filter(|finding| finding.severity == severity);
    found.map(ToString::to_string).collect()
}

fn errors(policy: &str, dialect: Dialect) -> Vec<String> {
    told(policy, dialect, Severity::Error)
}

#[test]
fn ssh_tests_hold_if_they_do_in_some_world() {
    let ssh = |src: &str, test: &str| {
        format!(
            r#""acls": [], "ssh": [{{"action": "accept", "src": ["{src}"], "dst": ["tag:srv"], "users": ["autogroup:nonroot"]}}],
            "sshTests": [{test}]"#
        )
    };
    let test = r#"{"src": "ada@example.com", "dst": ["tag:srv"], "accept": ["ada"], "deny": ["root"]}"#;
    for src in ["autogroup:admin", "autogroup:member", "autogroup:it-admin", "ada@example.com"] {
        assert_eq!(errors(&ssh(src, test), THEIRS), [""; 0], "{src}");
    }
    // What holds in no world fails, once for each user.
    let found = errors(&ssh("group:su", test), THEIRS);
    assert!(
        matches!(&found[..], [one] if one.contains("test(s) failed: ") && one.contains("must be let in")),
        "{found:?}"
    );
    let found = errors(&ssh("autogroup:admin", &test.replace("root", "bin")), THEIRS);
    assert_eq!(found, [""; 0], "a member without the role is denied");
    let denied = test.replace("\"accept\": [\"ada\"], \"deny\": [\"root\"]", "\"deny\": [\"ada\"]");
    assert_eq!(errors(&ssh("user:*@example.com", &denied), THEIRS).len(), 1);
    let (loaded, answers) = check(&ssh("group:su", test), THEIRS);
    assert_eq!((answers.tally.tested, answers.tally.failed, loaded.findings.has_errors()), (0, 0, true));
}

#[test]
fn ssh_tests_of_an_address_are_not_run() {
    let policy = |test: &str| {
        format!(
            r#""acls": [], "ssh": [{{"action": "check", "src": ["su@example.com"], "dst": ["tag:srv"], "users": ["root"]}}],
            "sshTests": [{test}]"#
        )
    };
    for test in [
        r#"{"src": "su@example.com", "dst": ["box"], "check": ["root"]}"#,
        r#"{"src": "su@example.com", "dst": ["100.64.77.7"], "accept": ["root"]}"#,
        r#"{"src": "100.64.77.7", "dst": ["tag:srv"], "accept": ["root"]}"#,
        r#"{"src": "box", "dst": ["100.64.77.8"], "accept": ["root"]}"#,
    ] {
        assert_eq!(errors(&policy(test), THEIRS), [""; 0], "{test}");
        let notes = told(&policy(test), THEIRS, Severity::Note);
        assert!(notes.iter().any(|note| note.contains("only an inventory tells whose it is")), "{notes:?}");
    }
    // Beside one, the others are.
    let both = r#"{"src": "su@example.com", "dst": ["box", "tag:srv"], "check": ["root"], "deny": ["root"]}"#;
    assert_eq!(errors(&policy(both), THEIRS).len(), 1);
    // With an inventory it is a failure, told of once.
    let text = policy(r#"{"src": "su@example.com", "dst": ["box"], "check": ["root"]}"#);
    let inventory = r#"{"nodes": [{"name": "su", "addresses": ["100.64.0.1"], "user": "su@example.com"},
        {"name": "srv", "addresses": ["100.64.0.2"], "tags": ["tag:srv"]}]}"#;
    let policy = Source::new("p", &format!("{{{TAGS},\n{text}}}"));
    let scope = Scope { dialect: THEIRS, ..Scope::default() };
    let mut loaded = Loaded::new(policy, Some(Source::new("i", inventory)), &scope);
    assert!(!loaded.findings.has_errors(), "asked by check alone");
    loaded.check(0);
    assert_eq!(loaded.findings.count(Severity::Error), 1, "{}", loaded.findings);
    assert!(loaded.findings.to_string().contains("test(s) failed: box is no device"));
}

#[test]
fn routers_of_via_route_ip_sets() {
    for (set, address) in [
        ("ipset:site", "192.168.50.1"),
        ("ipset:site", "10.5.0.4"),
        ("ipset:site", "fd00:5::9"),
        ("ipset:all", "10.5.0.9"),
        ("ipset:all", "10.7.1.1"),
        ("net", "10.7.1.1"),
        ("10.7.0.0/16", "10.7.1.1"),
    ] {
        let target =
            if address.contains(':') { format!("[{address}]:443") } else { format!("{address}:443") };
        let policy = |wanted: &str| {
            format!(
                r#""grants": [{{"src": ["group:su"], "dst": ["{set}"], "ip": ["*"], "via": ["tag:router"]}}],
                "tests": [{{"src": "su@example.com", "{wanted}": ["{target}"]}}]"#
            )
        };
        for dialect in [OURS, THEIRS] {
            assert_eq!(errors(&policy("accept"), dialect), [""; 0], "{set} {address}");
            assert_eq!(errors(&policy("deny"), dialect).len(), 1, "{set} {address}");
        }
    }
    // Of what a set does not hold, nothing is routed.
    let outside = r#""grants": [{"src": ["group:su"], "dst": ["ipset:site"], "ip": ["*"], "via": ["tag:router"]}],
        "tests": [{"src": "su@example.com", "accept": ["10.5.0.10:443"]}]"#;
    for dialect in [OURS, THEIRS] {
        assert_eq!(errors(outside, dialect).len(), 1);
    }
}

#[test]
fn what_may_be_routed_is() {
    let policy = |more: &str, tests: &str| {
        format!(
            r#"{more} "grants": [{{"src": ["autogroup:admin"], "dst": ["*"], "ip": ["*"]}}], "tests": [{tests}]"#
        )
    };
    let approvers = r#""autoApprovers": {"routes": {"192.168.1.0/24": ["tag:router", "autogroup:admin"], "10.0.0.0/8": []},
        "exitNode": ["tag:router"]},"#;
    let accept = |to: &str| format!(r#"{{"src": "su@example.com", "accept": ["{to}:443"]}}"#);
    for dialect in [OURS, THEIRS] {
        assert_eq!(errors(&policy(approvers, &accept("192.168.1.1")), dialect), [""; 0]);
        assert_eq!(errors(&policy(approvers, &accept("8.8.8.8")), dialect), [""; 0]);
        // Addresses that no placeholder has: somebody may route them.
        for to in ["192.168.7.1", "box", "100.64.9.9"] {
            assert_eq!(errors(&policy("", &accept(to)), dialect), [""; 0], "{to}");
        }
        let by_address = r#"{"src": "box", "accept": ["100.64.9.9:443"]}"#;
        let star = policy("", by_address).replace("autogroup:admin", "*");
        assert_eq!(errors(&star, dialect), [""; 0]);
        // What no rule admits in any world fails.
        let other = policy(approvers, &accept("192.168.1.1")).replace("[\"*\"]}]", "[\"tcp:80\"]}]");
        assert_eq!(errors(&other, dialect).len(), 1);
        let member = policy(approvers, r#"{"src": "tag:srv", "accept": ["192.168.1.1:443"]}"#);
        assert_eq!(errors(&member, dialect).len(), 1);
    }
    // What may be routed is denied to nobody by chance.
    let denied = policy(approvers, r#"{"src": "su@example.com", "deny": ["192.168.1.1:443"]}"#)
        .replace("autogroup:admin\"], \"dst", "*\"], \"dst");
    assert_eq!(errors(&denied, OURS).len(), 1);
    // A section that is not as it should be is nothing to fall over.
    for odd in [r#"{"routes": []}"#, r#"{"routes": {"x": 1}, "exitNode": {}}"#, r#"{"exitNode": null}"#] {
        assert_eq!(errors(&policy(&format!("\"autoApprovers\": {odd},"), ""), OURS), [""; 0], "{odd}");
    }
}

#[test]
fn placeholder_routes_overlap_no_venue_and_are_on_no_side() {
    let policy = r#""autoApprovers": {"routes": {"198.51.100.0/24": ["tag:router"], "10.0.0.0/8": ["tag:srv", "tag:router"]}},
        "acls": [{"action": "accept", "src": ["tag:srv"], "dst": ["tag:srv:22"]}],
        "venues": {"venue:x": {"addresses": ["198.51.100.0/25"],
            "sessions": [{"from": ["tag:srv"], "to": ["198.51.100.9"], "proto": "tcp", "ports": "443"}]}},
        "boundaries": [{"name": "apart", "between": [["tag:srv"], ["tag:router"]]}],
        "tests": [{"src": "tag:srv", "accept": ["198.51.100.9:443"], "deny": ["198.51.100.9:80"]}]"#;
    assert_eq!(errors(policy, OURS), [""; 0]);
}
