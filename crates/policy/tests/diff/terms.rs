//! Times, rates and names of what a change is about.

use bulkhead_policy::diff::Difference;

use super::common::{load, time};
use super::{Loaded, SECOND, compare, simple, text};

#[test]
fn a_node_that_ends_later_adds_the_time_between() {
    let of = |end: &str| {
        let node = format!(r#", {{"name": "n4", "addresses": ["100.64.0.4"], "tags": ["tag:a"]{end}}}"#);
        simple(
            r#""acls": [{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:22"], "proto": "tcp"}]"#,
            &node,
        )
    };
    let ending = |seconds| of(&format!(r#", "expires": "{}""#, time(seconds)));
    let longer = compare(&ending(100), &ending(200), 0);
    assert_eq!(text(&longer.added), ["n4 > n2+n3 tcp:22 ipv4"]);
    assert_eq!((longer.added[0].from, longer.added[0].until), (Some(100 * SECOND), Some(200 * SECOND)));
    assert_eq!(longer.removed, []);
    let shorter = compare(&of(""), &ending(200), 0);
    assert_eq!((shorter.removed[0].from, shorter.removed[0].until), (Some(200 * SECOND), None));
    // Gone before and after: nothing to say of it.
    assert_eq!(compare(&ending(100), &ending(200), 300 * SECOND), Difference::default());
}

#[test]
fn changed_terms_are_told_and_wider_ones_widen() {
    let of = |more: &str, lane: &str| {
        let sections = format!(
            r#""acls": [{{"name": "r", "action": "accept", "src": ["tag:a"], "dst": ["tag:b:22"], "proto": "tcp"{more}}}],
            "venues": {{"venue:x": {{"addresses": ["198.51.100.0/24"],
                "feeds": [{{"from": ["198.51.100.10"], "to": ["tag:a"], "proto": "udp", "ports": "53"{lane}}}]}}}}"#
        );
        simple(&sections, "")
    };
    let rate = |packets: u32| format!(", \"maxPacketsPerSecond\": {packets}");
    let told = |old: &Loaded, new: &Loaded| {
        let found = compare(old, new, 0);
        assert!(found.added.is_empty() && found.removed.is_empty(), "{found:?}");
        let changed = found.changed.iter().map(|changed| changed.flows.clone()).collect::<Vec<_>>();
        let wider: Vec<bool> = found.changed.iter().map(|changed| changed.widened).collect();
        assert_eq!(found.widens(), wider.contains(&true));
        assert_eq!(
            found.widened_venues.is_empty(),
            !text(&changed).iter().any(|flow| flow.starts_with("198")) || !found.widens()
        );
        (text(&changed), wider)
    };
    let both = ["n1 > n2 tcp:22 ipv6", "n1 > n2+n3 tcp:22 ipv4"].map(String::from).to_vec();
    assert_eq!(told(&of(&rate(5), ""), &of(&rate(6), "")), (both.clone(), vec![true, true]));
    assert_eq!(told(&of(&rate(5), ""), &of("", "")), (both.clone(), vec![true, true]));
    assert_eq!(told(&of("", ""), &of(&rate(5), "")), (both.clone(), vec![false, false]));
    assert_eq!(told(&of(&rate(5), ""), &of(&rate(5), "")), (vec![], vec![]));
    let feed = vec!["198.51.100.10 > n1 udp:53 ipv4".to_string()];
    assert_eq!(told(&of("", ", \"oneWay\": true"), &of("", "")), (feed.clone(), vec![true]));
    assert_eq!(told(&of("", ""), &of("", ", \"oneWay\": true")), (feed, vec![false]));
    // What is added says its terms; a rate that holds for a while only, until when.
    let found = compare(&simple("\"acls\": []", ""), &of(&rate(5), ""), 0);
    assert!(found.added.iter().any(|flows| flows.terms.packets == Some(5)), "{found:?}");
    let ending = r#""acls": [{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:22"], "proto": "tcp", "expires": "1970-01-01T00:01:40Z"},
        {"action": "accept", "src": ["tag:a"], "dst": ["tag:b:22"], "proto": "tcp", "maxNewPerSecond": 5}]"#;
    let plain = r#""acls": [{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:22"], "proto": "tcp"}]"#;
    let found = compare(&simple(plain, ""), &simple(ending, ""), 0);
    assert_eq!(text(&found.changed.iter().map(|changed| changed.flows.clone()).collect::<Vec<_>>()), both);
    assert_eq!((found.changed[0].flows.from, found.changed[0].flows.until), (Some(100 * SECOND), None));
}

#[test]
fn a_limit_that_two_rules_have_now_is_wider() {
    let rule = |ports: &str, rate: &str| {
        format!(
            r#"{{"name": "r{ports}", "action": "accept", "src": ["tag:a"], "dst": ["tag:b:{ports}"], "proto": "tcp"{rate}}}"#
        )
    };
    let limit = ", \"maxNewPerSecond\": 5";
    let of = |rules: &[String]| simple(&format!("\"acls\": [{}]", rules.join(",")), "");
    let one = of(&[rule("22-23", limit)]);
    let two = of(&[rule("22", limit), rule("23", limit)]);
    let found = compare(&one, &two, 0);
    assert!(found.added.is_empty() && found.changed.is_empty() && found.widens(), "{found:?}");
    assert_eq!(
        (&*found.apart[0].rule, &found.apart[0].now[..]),
        ("r22-23", &["r22".to_string(), "r23".into()][..])
    );
    // The other way round they share one limit: less passes.
    assert!(!compare(&two, &one, 0).widens());
    // A kept rule that loses a port to another of the same limit counts twice as well.
    let split = of(&[rule("23", limit), rule("22-23", limit)]);
    assert_eq!(compare(&one, &split, 0).apart.len(), 1);
    assert_eq!(compare(&split, &split, 0), Difference::default());
}

#[test]
fn a_star_is_one_line_that_names_selectors_and_routers() {
    let inventory = r#"{"nodes": [
        {"name": "alice-1", "addresses": ["100.64.0.1"], "user": "alice@example.com"},
        {"name": "gw", "addresses": ["100.64.0.2"], "tags": ["tag:r"], "routes": ["10.0.0.0/8"]},
        {"name": "wiki", "addresses": ["100.64.0.3"], "tags": ["tag:w"]}]}"#;
    let of = |more: &str| {
        load(
            &format!(
                r#"{{"hosts": {{"a": "10.11.129.0/24", "b": "10.11.130.0/24"}}, "tagOwners": {{"tag:w": [], "tag:r": []}},
                "acls": [{more} {{"action": "accept", "src": ["alice@example.com"], "dst": ["a:5432", "b:6380"]}}]}}"#
            ),
            inventory,
        )
    };
    let star = r#"{"action": "accept", "src": ["*"], "dst": ["tag:w:80"]},"#;
    let difference = compare(&of(""), &of(star), 0);
    let [flows] = &difference.added[..] else { panic!("{difference:?}") };
    assert_eq!(flows.from_selectors, ["*"]);
    assert_eq!(flows.sources, ["alice-1", "gw", "10.0.0.0/8 behind gw"]);
    assert_eq!((&flows.destinations[..], &flows.to_selectors[..]), (&["wiki".to_string()][..], &[][..]));
    assert_eq!(flows.services, ["tcp:80", "udp:80", "icmp"]);
    // Who is left out of a selector is not called by it.
    let some = star.replace("\"*\"", "\"100.64.0.1\", \"10.0.0.0/8\"");
    assert_eq!(compare(&of(""), &of(&some), 0).added[0].from_selectors, [""; 0]);
}
