//! What is refused, what a dialect does not know, and what is only looked at.

use bulkhead_policy::diagnostic::Severity;

use crate::{OURS, THEIRS, errors, errors_of_file, ingress, load};

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
    let of = errors_of_file;
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

#[test]
fn tls_goes_on_an_accept_of_tcp_or_udp() {
    let acl = |more: &str| {
        let rule = r#""src": ["*"], "dst": ["tag:web:443"]"#;
        errors(&format!(r#""acls": [{{{rule}, {more}}}]"#), OURS)
    };
    let accept = |more: &str| acl(&format!(r#""action": "accept", {more}"#));
    for good in [
        r#""proto": "tcp", "tls": "observe""#,
        r#""proto": "udp", "tls": "required""#,
        r#""proto": "tcp", "tls": "required", "starttls": "postgres""#,
    ] {
        assert_eq!(accept(good), [""; 0], "{good}");
    }
    for (bad, wanted) in [
        (
            r#""tls": "required""#,
            "tls is about tcp and udp, and a rule that names no protocol admits ping as well",
        ),
        (r#""proto": "sctp", "tls": "observe""#, "tls is about tcp and udp, and the rule admits sctp"),
        (r#""proto": "tcp", "tls": "require""#, "unknown tls \"require\""),
        (r#""proto": "tcp", "tls": true"#, "tls must be a string, this is true or false"),
        (
            r#""proto": "tcp", "starttls": "postgres""#,
            "starttls says how TLS begins, and the rule does not ask for TLS",
        ),
        (
            r#""proto": "udp", "tls": "observe", "starttls": "postgres""#,
            "starttls is about tcp alone, and the rule admits udp",
        ),
        (r#""proto": "tcp", "tls": "observe", "starttls": "xyz""#, "unknown starttls \"xyz\""),
    ] {
        assert_eq!(accept(bad), [wanted], "{bad}");
    }
    for unfollowed in ["mysql", "smtp", "imap", "pop3", "ldap", "xmpp"] {
        let found = accept(&format!(r#""proto": "tcp", "tls": "required", "starttls": "{unfollowed}""#));
        let wanted = format!("starttls \"{unfollowed}\" is not followed: ");
        assert!(found.len() == 1 && found[0].starts_with(&wanted), "{found:?}");
    }
    assert_eq!(
        acl(r#""action": "deny", "proto": "tcp", "tls": "required""#),
        ["a deny has no tls: it admits nothing"]
    );
    let grant = |ip: &str, dialect| {
        let rule = r#""src": ["*"], "dst": ["tag:web"], "tls": "required""#;
        errors(&format!(r#""grants": [{{{rule}, "ip": ["{ip}"]}}]"#), dialect)
    };
    assert_eq!(grant("tcp:443", OURS), [""; 0]);
    assert_eq!(grant("443", OURS).len(), 1);
    assert_eq!(grant("icmp:*", OURS), ["tls is about tcp and udp, and the rule admits icmp"]);
    assert!(grant("tcp:443", THEIRS)[0].contains("unknown field \"tls\""));
}

#[test]
fn what_tls_is_refused_for_has_its_place_and_the_next_step() {
    let rules = "\"acls\": [{\"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"tag:web:443\"],\n \"tls\": \"required\"}]";
    let (_, _, findings) = load(&format!("{{{rules}}}"), OURS);
    let text = findings.to_string();
    assert!(text.contains(":2:9") && text.contains("write \"proto\": \"tcp\""), "{text}");
}
