//! What may be granted, and where a grant stands among the rules.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::policy::Action;
use bulkhead_policy::policy::compose::{Running, compose};
use bulkhead_policy::reference::{Probe, first};
use bulkhead_policy::resolve::grantable::{NotGrantable, Wanted, entries, is_end};
use bulkhead_policy::source::Source;

const KEYS: [&str; 2] = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID85fk9YKTph2JNhq8Ay9/EsiSxXXvS30x/F4cQYkwxy alice",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPjx7IAXc0aWUC5GwUIq5/wqiDfxC5HC6UL0xmyaJIgx",
];

const INVENTORY: &str = r#"{"nodes": [
  {"name": "desk", "addresses": ["100.64.0.1"], "tags": ["tag:sre"]},
  {"name": "db-1", "addresses": ["100.64.0.2"], "tags": ["tag:db"]},
  {"name": "db-2", "addresses": ["100.64.0.3"], "tags": ["tag:db", "tag:gold"]},
  {"name": "web", "addresses": ["100.64.0.4"], "tags": ["tag:web"]},
]}"#;

fn text(rest: &str) -> String {
    format!(
        r#"{{
  "tagOwners": {{"tag:sre": [], "tag:db": [], "tag:gold": [], "tag:web": [], "tag:none": []}},
  "approvers": {{"alice": ["{}"], "bob": ["{}"]}},
  "grantable": [
    {{"name": "databases", "src": ["tag:sre"], "dst": ["tag:db:22,5432"], "longest": "4h", "approvals": 1}},
    {{"name": "longer", "src": ["tag:sre"], "dst": ["100.64.0.2:22"], "longest": "2d", "by": ["alice", "bob"]}},
    {{"name": "glass", "src": ["tag:sre"], "dst": ["tag:web:*"], "longest": "30m", "breakGlass": true}},
  ],
  {rest}
}}"#,
        KEYS[0], KEYS[1]
    )
}

fn load(policy: &str) -> Loaded {
    Loaded::new(Source::new("policy", policy), Some(Source::new("inventory", INVENTORY)), &Scope::default())
}

fn errors(policy: &str) -> Vec<String> {
    let loaded = load(policy);
    loaded.findings.0.iter().map(ToString::to_string).collect()
}

fn wanted<'a>(source: &'a str, destination: &'a str) -> Wanted<'a> {
    Wanted { source, destination, protocol: "tcp", seconds: 3600, break_glass: false }
}

fn ask(wanted: Wanted<'_>) -> Result<Vec<String>, NotGrantable> {
    let loaded = load(&text("\"acls\": []"));
    assert!(!loaded.findings.has_errors(), "{:?}", loaded.findings.0);
    let (policy, inventory) = (loaded.policy.unwrap(), loaded.inventory.unwrap());
    let found = entries(&policy, &inventory, Dialect::Bulkhead, wanted)?;
    Ok(found.iter().map(|entry| entry.title()).collect())
}

#[test]
fn what_fits_an_entry_may_be_granted_however_it_is_written() {
    assert_eq!(ask(wanted("tag:sre", "tag:db:22")).unwrap(), ["grantable \"databases\""]);
    let both = ["grantable \"databases\"", "grantable \"longer\""];
    for (source, destination) in [("100.64.0.1", "100.64.0.2:22"), ("tag:sre", "100.64.0.2/32:22")] {
        assert_eq!(ask(wanted(source, destination)).unwrap(), both);
    }
    assert_eq!(ask(wanted("100.64.0.1/32", "tag:gold:22,5432")).unwrap(), ["grantable \"databases\""]);
    let longer = Wanted { seconds: 172_800, ..wanted("tag:sre", "100.64.0.2:22") };
    assert_eq!(ask(longer).unwrap(), ["grantable \"longer\""]);
    let glass = Wanted { break_glass: true, seconds: 1800, ..wanted("tag:sre", "tag:web:443") };
    assert_eq!(ask(glass).unwrap(), ["grantable \"glass\""]);
}

#[test]
fn what_is_wider_may_not() {
    let says = |wanted| ask(wanted).unwrap_err().to_string();
    let wider = "it is wider than what may be granted: grantable \"databases\" has not ";
    for (source, destination, why) in [
        ("tag:web", "tag:db:22", "the source web (100.64.0.4)"),
        ("100.64.0.0/24", "tag:db:22", "the source (100.64.0.0)"),
        ("*", "tag:db:22", "the source db-1 (100.64.0.2)"),
        ("tag:sre", "tag:web:22", "the destination web (100.64.0.4)"),
        ("tag:sre", "tag:db:22-23", "these ports at db-1 (100.64.0.2); its protocol is tcp"),
        ("tag:sre", "tag:db:*", "these ports at db-1 (100.64.0.2); its protocol is tcp"),
    ] {
        let said = says(wanted(source, destination));
        assert!(said.starts_with(&format!("{wider}{why}")), "{said}");
    }
    let udp = Wanted { protocol: "udp", ..wanted("tag:sre", "tag:db:22") };
    assert!(says(udp).contains("these ports at db-1"), "{}", says(udp));
    let long = Wanted { seconds: 14_401, ..wanted("tag:sre", "tag:db:22") };
    assert_eq!(says(long), "it is for 14401 s, and grantable \"databases\" is for 14400 s at most");
    // An emergency has entries of its own, and nothing else has these.
    let glass = Wanted { break_glass: true, seconds: 60, ..wanted("tag:sre", "tag:db:22") };
    assert!(says(glass).contains("grantable \"glass\" has not the destination db-1"));
    assert!(says(wanted("tag:sre", "tag:web:443")).contains("has not the destination web"));
}

#[test]
fn whose_addresses_it_is_about_is_an_end_of_it() {
    let loaded = load(&text("\"acls\": []"));
    let (policy, inventory) = (loaded.policy.unwrap(), loaded.inventory.unwrap());
    let ends = |source, destination| {
        let wanted = wanted(source, destination);
        let nodes = ["desk", "db-1", "db-2", "web", "none"];
        let is_end = |node: &&str| is_end(&policy, &inventory, Dialect::Bulkhead, wanted, node).unwrap();
        nodes.into_iter().filter(is_end).collect::<Vec<_>>()
    };
    assert_eq!(ends("tag:sre", "tag:db:22"), ["desk", "db-1", "db-2"]);
    assert_eq!(ends("100.64.0.1", "tag:gold:22"), ["desk", "db-2"]);
    assert_eq!(ends("100.64.0.9", "100.64.0.4/31:22"), ["web"]);
    assert_eq!(ends("*", "100.64.0.9:22"), ["desk", "db-1", "db-2", "web"]);
    let nobody = is_end(&policy, &inventory, Dialect::Bulkhead, wanted("tag:none", "tag:db:22"), "db-1");
    assert!(matches!(nobody, Err(NotGrantable::Nobody(_))));
}

#[test]
fn who_may_quarantine_is_known_and_enough() {
    let of = |section: &str| {
        let loaded = load(&text(&format!("{section} \"acls\": []")));
        let found: Vec<String> = loaded.findings.0.iter().map(ToString::to_string).collect();
        let quarantine = loaded.policy.unwrap().quarantine;
        let by = quarantine.people().map(|people| people.iter().map(ToString::to_string).collect::<Vec<_>>());
        (quarantine.approvals, by, found)
    };
    assert_eq!(of(""), (2, None, Vec::new()));
    let one = r#""quarantine": {"approvals": 1, "by": ["alice"]},"#;
    assert_eq!(of(one), (1, Some(vec!["alice".to_owned()]), Vec::new()));
    for (section, why) in [
        (r#""quarantine": {"by": ["alice"]},"#, "2 people are to approve, and 1 may"),
        (r#""quarantine": {"approvals": 3},"#, "3 people are to approve, and 2 may"),
        (r#""quarantine": {"approvals": 0},"#, "a whole number from 1 to 16"),
        (r#""quarantine": {"approvals": 1, "by": ["eve"]},"#, "eve is not among the approvers"),
        (r#""quarantine": {"approval": 1},"#, "approval"),
        (r#""quarantine": [],"#, "quarantine"),
    ] {
        let (_, _, found) = of(section);
        assert!(found.iter().any(|found| found.contains(why)), "{section}: {found:?}");
    }
}

#[test]
fn what_means_nothing_may_not() {
    let says = |source, destination| ask(wanted(source, destination)).unwrap_err().to_string();
    assert_eq!(says("tag:none", "tag:db:22"), "tag:none matches nobody in the inventory");
    assert!(says("tag:sree", "tag:db:22").starts_with("tag not found: \"tag:sree\": did you mean"));
    assert!(says("tag:sre", "tag:db").contains("port"));
    assert!(says("tag:sre", "tag:db:ssh").contains("port range"));
    let none = load("{\"acls\": []}");
    let (policy, inventory) = (none.policy.unwrap(), none.inventory.unwrap());
    let refused = entries(&policy, &inventory, Dialect::Bulkhead, wanted("*", "*:22")).unwrap_err();
    assert_eq!(refused, NotGrantable::None(""));
}

#[test]
fn wrong_sections_are_errors_at_their_places() {
    let wrong = |from: &str, to: &str| {
        let policy = text("\"acls\": []").replacen(from, to, 1);
        assert_ne!(policy, text("\"acls\": []"));
        errors(&policy).join("\n")
    };
    for (from, to, why) in [
        ("\"bob\": [", "\"bo b\": [", "`bo b` is no name"),
        ("ssh-ed25519 AAAAC3", "ssh-rsa AAAAC3", "a key of type ssh-rsa is not taken"),
        (KEYS[1], KEYS[0], "bob and alice have the same key"),
        ("\"longest\": \"4h\"", "\"longest\": \"4 hours\"", "\"4 hours\" is no time"),
        ("\"longest\": \"4h\"", "\"longest\": \"31d\"", "\"31d\" is no time"),
        ("\"longest\": \"4h\", ", "", "the entry has no \"longest\""),
        ("\"approvals\": 1", "\"approvals\": 0", "approvals must be a whole number from 1"),
        ("\"approvals\": 1", "\"approvals\": 3", "3 people are to approve, and 2 may"),
        ("[\"alice\", \"bob\"]", "[\"alice\", \"alice\"]", "2 people are to approve, and 1 may"),
        ("[\"alice\", \"bob\"]", "[\"alice\", \"eve\"]", "eve is not among the approvers"),
        ("\"30m\"", "\"61m\"", "a breakGlass entry is for 3600 s at most"),
        (
            "\"breakGlass\": true",
            "\"breakGlass\": true, \"approvals\": 2",
            "a breakGlass entry has no approvals",
        ),
        ("\"name\": \"glass\", ", "\"nme\": \"glass\", ", "nme"),
    ] {
        let found = wrong(from, to);
        assert!(found.contains(why) && found.contains("policy:"), "{to}: {found}");
    }
}

fn running(id: char, destination: &str) -> Running {
    Running {
        id: id.to_string().repeat(32),
        source: "tag:sre".to_owned(),
        destination: destination.to_owned(),
        protocol: "tcp".to_owned(),
        expires: "2030-01-01T00:00:00Z".to_owned(),
        ticket: "OPS-1".to_owned(),
        reason: "a look".to_owned(),
        requester: "alice".to_owned(),
        approvers: vec!["bob".to_owned()],
        break_glass: false,
    }
}

fn admitted(loaded: &Loaded, to: &str, port: u16, now: u64) -> Option<(String, bool)> {
    let ruleset = loaded.ruleset.as_ref().unwrap();
    let probe =
        Probe { source: "100.64.0.1".parse().unwrap(), destination: to.parse().unwrap(), protocol: 6, port };
    let rule = first(ruleset, &probe, now).map(|index| &ruleset.rules[index])?;
    Some((rule.title(), rule.action == Action::Accept))
}

#[test]
fn a_grant_opens_what_no_rule_decides_until_its_end() {
    let rules = r#""acls": [{"action": "deny", "src": ["*"], "dst": ["tag:gold:22"]}],
      "tests": [{"src": "tag:sre", "deny": ["tag:db:22"]}]"#;
    let policy = Source::new("policy", &text(rules));
    let with = compose(&policy, &[running('a', "tag:db:22")]);
    let mut loaded = load(with.text());
    loaded.check(0);
    // The policy's own test is about the policy's own rules.
    assert!(!loaded.findings.has_errors(), "{:?}", loaded.findings.0);
    let grant = Some((format!("grant {}", "a".repeat(32)), true));
    assert_eq!(admitted(&loaded, "100.64.0.2", 22, 0), grant);
    assert_eq!(admitted(&loaded, "100.64.0.2", 5432, 0), None);
    // What a rule denies stays denied.
    assert_eq!(admitted(&loaded, "100.64.0.3", 22, 0), Some(("rule 1".to_owned(), false)));
    // 2030-01-01T00:00:00Z.
    let end = 1_893_456_000_000_000_000;
    assert_eq!(admitted(&loaded, "100.64.0.2", 22, end - 1), grant);
    assert_eq!(admitted(&loaded, "100.64.0.2", 22, end), None);
    let ruleset = loaded.ruleset.unwrap();
    let rule = ruleset.rules.last().unwrap();
    assert_eq!((rule.number, rule.record.ticket.as_deref()), (1_000_001, Some("OPS-1")));
    assert_eq!(rule.grant.as_ref().unwrap().approvers, ["bob"]);
}

#[test]
fn a_grant_crosses_no_boundary() {
    let rules = r#""acls": [], "boundaries": [{"name": "gold", "between": [["tag:sre"], ["tag:gold"]]}]"#;
    let policy = Source::new("policy", &text(rules));
    assert_eq!(errors(policy.text()), Vec::<String>::new());
    let found = errors(compose(&policy, &[running('a', "tag:db:22")]).text()).join("\n");
    assert!(found.contains("crosses the boundary \"gold\""), "{found}");
}
