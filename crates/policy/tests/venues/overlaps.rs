//! Prefixes, routes and nodes that overlap a venue.

use bulkhead_policy::diagnostic::Severity;
use bulkhead_policy::inventory::Network;
use bulkhead_policy::resolve::Exemptions;

use super::{INVENTORY, TAGS, VENUE, errors, load_with};

#[test]
fn a_prefix_that_overlaps_a_venue_is_refused_with_both_places() {
    let acl = r#"{"action": "accept", "src": ["tag:engine"], "dst": ["198.51.100.0/24:*"]}"#;
    let sections = format!("\"acls\": [{acl}], {VENUE}");
    let (.., findings) = load_with(&sections, INVENTORY, Network::Overlay, &Exemptions::default());
    let error = findings.0.iter().find(|finding| finding.severity == Severity::Error).unwrap();
    assert_eq!(error.message, "\"198.51.100.0/24\" overlaps venue:x: that is how an exception grows");
    let text = format!("{{{sections}, {TAGS}}}");
    let span = error.location.as_ref().unwrap().span;
    assert_eq!(&text[span.start..span.end], "\"198.51.100.0/24:*\"");
    let span = error.related[0].location.span;
    assert_eq!(&text[span.start..span.end], "\"198.51.100.0/24\"");

    let with = |more: &str| errors(&format!("{more}, {VENUE}"));
    let one = |more: &str| {
        let found = with(more);
        assert_eq!(found.len(), 1, "{more}: {found:?}");
        found[0].clone()
    };
    assert!(
        one(r#""acls": [{"action": "accept", "src": ["198.51.100.9"], "dst": ["*:22"]}]"#)
            .starts_with("\"198.51.100.9/32\" overlaps")
    );
    assert!(
        one(r#""acls": [{"action": "accept", "src": ["*"], "dst": ["128.0.0.0/1:22"]}]"#)
            .contains("128.0.0.0/1")
    );
    assert!(
        one(r#""grants": [{"src": ["tag:dev"], "dst": ["233.54.12.1"], "ip": ["*"]}]"#)
            .contains("233.54.12.1/32")
    );
    assert!(
        one(r#""acls": [], "hosts": {"ex": "198.51.0.0/16"}"#)
            .starts_with("host \"ex\" (198.51.0.0/16) overlaps")
    );
    assert!(
        one(r#""acls": [], "ipsets": {"ipset:s": ["10.0.0.0/8", "198.51.100.4-198.51.100.5"]}"#)
            .starts_with("ipset:s (198.51.100.4-198.51.100.5)")
    );
    assert_eq!(
        with(r#""acls": [], "ipsets": {"ipset:s": ["198.0.0.0/8", "remove 198.51.0.0/16"]}"#),
        [""; 0]
    );
    // What names nobody in particular stands, and the default deny wins there.
    assert_eq!(
        with(
            r#""acls": [{"action": "accept", "src": ["autogroup:danger-all"], "dst": ["*:*", "0.0.0.0/0:*", "autogroup:internet:*"]}]"#
        ),
        [""; 0]
    );
    // A test may name the venue: that is what tests are for.
    assert_eq!(with(r#""acls": [], "tests": [{"src": "tag:dev", "deny": ["198.51.100.20:443"]}]"#), [""; 0]);
    let venues = VENUE.trim_end_matches('}');
    let second = r#"}, "venue:y": {"addresses": ["192.0.2.0/24", "198.51.100.128/25"]}}"#;
    assert_eq!(errors(&format!("\"acls\": [], {venues}{second}")), ["venue:y overlaps venue:x"]);
}

#[test]
fn a_route_into_a_venue_is_refused_at_the_node() {
    let inventory = INVENTORY.replace("10.1.0.0/16", "198.51.0.0/16");
    let sections = format!("\"acls\": [], {VENUE}");
    let (.., findings) = load_with(&sections, &inventory, Network::Overlay, &Exemptions::default());
    let error = findings.0.iter().find(|finding| finding.severity == Severity::Error).unwrap();
    assert_eq!(error.message, "the route 198.51.0.0/16 of exit-1 overlaps venue:x");
    assert_eq!(&*error.location.as_ref().unwrap().file, "inventory");
    assert_eq!(&*error.related[0].location.file, "policy");
}

#[test]
fn a_star_that_holds_a_venue_is_noted() {
    let acl = r#"{"action": "accept", "src": ["tag:dev"], "dst": ["autogroup:internet:*"]}"#;
    let (.., findings) = load_with(
        &format!("\"acls\": [{acl}], {VENUE}"),
        INVENTORY,
        Network::Overlay,
        &Exemptions::default(),
    );
    let mut notes: Vec<&str> = findings.0.iter().map(|finding| finding.message.as_str()).collect();
    notes.sort_unstable();
    assert_eq!(
        notes,
        [
            "198.51.100.200 of gateway-1 is within venue:x and not covered: it is a node's own",
            "autogroup:internet holds addresses of venue:x: its default deny wins there, only its feeds and sessions pass"
        ]
    );
    assert!(findings.0.iter().all(|finding| finding.severity == Severity::Note));
}

#[test]
fn a_node_that_takes_a_venues_address_is_seen() {
    let sections = format!("\"acls\": [], {VENUE}");
    let found = |inventory: &str| {
        let (.., findings) = load_with(&sections, inventory, Network::Overlay, &Exemptions::default());
        findings.0.into_iter().map(|finding| (finding.severity, finding.message)).collect::<Vec<_>>()
    };
    // As an overlay address it is a warning; where it is a lane's end, the lane is refused.
    let other = found(&INVENTORY.replace("100.64.0.3", "198.51.100.77"));
    let said = "198.51.100.77 of dev-1 is within venue:x and not covered: it is a node's own";
    assert!(other.contains(&(Severity::Warning, said.into())), "{other:?}");
    let lane = found(&INVENTORY.replace("100.64.0.3", "198.51.100.20"));
    let said = "\"198.51.100.20/32\" is a node's own address, not venue:x's";
    assert!(lane.contains(&(Severity::Error, said.into())), "{lane:?}");
}
