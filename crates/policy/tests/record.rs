//! What a rule says of itself: `owner`, `ticket`, `reason`, `reviewBy`.

use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::diagnostic::{Diagnostic, Severity};
use bulkhead_policy::source::Source;

/// 31 January 2027, the last nanosecond of it.
const LAST: u64 = 1_801_439_999_999_999_999;

fn load(fields: &str, dialect: Dialect, now: u64) -> Loaded {
    let policy = format!(
        r#"{{"acls": [{{"action": "accept", "src": ["*"], "dst": ["*:22"], {fields}}}],
            "grants": [{{"src": ["*"], "dst": ["*"], "ip": ["tcp:23"], {fields}}}]}}"#
    );
    let inventory = r#"{"nodes": [{"name": "a", "addresses": ["100.64.0.1"]}]}"#;
    let scope = Scope { dialect, ..Scope::default() };
    let mut loaded = Loaded::new(Source::new("p", &policy), Some(Source::new("i", inventory)), &scope);
    loaded.check(now);
    loaded
}

fn found(loaded: &Loaded, severity: Severity) -> Vec<&Diagnostic> {
    loaded.findings.0.iter().filter(|found| found.severity == severity).collect()
}

const ALL: &str = r#""owner": "db team", "ticket": "OPS-7", "reason": "backups", "reviewBy": "2027-01-31""#;

#[test]
fn fields_arrive_at_rules_of_both_sections() {
    let loaded = load(ALL, Dialect::Bulkhead, LAST);
    assert!(found(&loaded, Severity::Error).is_empty(), "{:?}", loaded.findings.0);
    for rule in &loaded.ruleset.as_ref().unwrap().rules {
        let wanted =
            [("owner", "db team"), ("ticket", "OPS-7"), ("reason", "backups"), ("reviewBy", "2027-01-31")];
        assert_eq!(rule.record.fields(), wanted.map(|(name, value)| (name, value.to_owned())));
        let json = serde_json::to_string(&rule.record).unwrap();
        assert_eq!(
            json,
            r#"{"owner":"db team","ticket":"OPS-7","reason":"backups","reviewBy":"2027-01-31"}"#
        );
    }
}

#[test]
fn a_review_is_due_until_its_day_is_over() {
    let due = |now| {
        let loaded = load(ALL, Dialect::Bulkhead, now);
        let warned = found(&loaded, Severity::Warning);
        warned.iter().filter(|warning| warning.message.contains("its review was due by 2027-01-31")).count()
    };
    assert_eq!((due(LAST), due(LAST + 1)), (0, 2));
}

#[test]
fn what_is_no_text_or_no_day_is_an_error_at_its_place() {
    for (fields, words) in [
        (r#""owner": 7"#, "owner"),
        (r#""reviewBy": "2027-02-30""#, "\"2027-02-30\" is no day that can be"),
        (r#""reviewBy": "soon""#, "\"soon\" is no day that can be"),
        (r#""reviewBy": "+2026-01-31""#, "\"+2026-01-31\" is no day that can be"),
        (r#""reviewBy": "0000-01-01""#, "\"0000-01-01\" is no day that can be"),
        (r#""owner": """#, "\"owner\" is empty"),
        (r#""reason": " ""#, "\"reason\" is empty"),
        (r#""reviewOn": "2027-01-31""#, "reviewOn"),
    ] {
        let loaded = load(fields, Dialect::Bulkhead, LAST);
        let errors = found(&loaded, Severity::Error);
        assert_eq!(errors.len(), 2, "{fields}: {errors:?}");
        let location = errors[0].location.as_ref().unwrap();
        assert!(errors[0].message.contains(words) && location.position.line == 1, "{errors:?}");
    }
}

#[test]
fn tailscale_knows_none_of_them() {
    for field in ALL.split(", ") {
        assert_eq!(found(&load(field, Dialect::Tailscale, LAST), Severity::Error).len(), 2, "{field}");
    }
}
