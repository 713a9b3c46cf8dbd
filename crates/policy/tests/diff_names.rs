//! How a change's ends are called: by tag, by user, and behind whom.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod common;

use bulkhead_policy::diff::{Difference, Side, diff};
use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::resolve::Ruleset;
use common::load;

type Loaded = (Ruleset, Inventory);

fn compare(old: &Loaded, new: &Loaded, now: u64) -> Difference {
    let old = Side { ruleset: &old.0, inventory: &old.1 };
    diff(old, Side { ruleset: &new.0, inventory: &new.1 }, now).unwrap()
}

#[test]
fn identities_are_named_by_their_tag_or_user_where_no_rule_does() {
    let inventory = r#"{"nodes": [
        {"name": "n1", "addresses": ["100.64.0.1"], "tags": ["tag:a", "tag:c"]},
        {"name": "n2", "addresses": ["100.64.0.2"], "tags": ["tag:a", "tag:c"]},
        {"name": "n3", "addresses": ["100.64.0.3"], "tags": ["tag:b", "tag:c"]},
        {"name": "n4", "addresses": ["100.64.0.4"], "tags": ["tag:b", "tag:c"]},
        {"name": "n5", "addresses": ["100.64.0.5"], "user": "u@x.y"},
        {"name": "n6", "addresses": ["100.64.0.6"], "user": "u@x.y"}]}"#;
    let of = |sources: &str, destinations: &str| {
        load(
            &format!(
                r#"{{"tagOwners": {{"tag:a": [], "tag:b": [], "tag:c": []}},
                "acls": [{{"action": "accept", "src": [{sources}], "dst": [{destinations}], "proto": "tcp"}}]}}"#
            ),
            inventory,
        )
    };
    let none = load(r#"{"acls": []}"#, inventory);
    let owned = |labels: &[&str]| labels.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (sources, destinations, from, to) in [
        (
            r#""100.64.0.5", "100.64.0.6""#,
            r#""100.64.0.3:22", "100.64.0.4:22""#,
            &["u@x.y"][..],
            &["tag:b"][..],
        ),
        (r#""100.64.0.1", "100.64.0.2""#, r#""u@x.y:22""#, &["tag:a"], &["u@x.y"]),
        // Some of a tag's devices are not the tag.
        (r#""100.64.0.1", "100.64.0.3""#, r#""100.64.0.5:22""#, &[], &[]),
    ] {
        let added = compare(&none, &of(sources, destinations), 0).added;
        assert_eq!(
            (&added[0].from_selectors[..], &added[0].to_selectors[..]),
            (&owned(from)[..], &owned(to)[..])
        );
    }
}

#[test]
fn a_range_is_behind_all_who_route_it_in_one_route_or_in_several() {
    let of = |rules: &str| {
        let inventory = r#"{"nodes": [{"name": "ada", "addresses": ["100.64.0.1"], "tags": ["tag:a"]},
            {"name": "gw", "addresses": ["100.64.0.2"], "tags": ["tag:r"], "routes": ["10.0.0.0/9", "10.128.0.0/9"]},
            {"name": "gw2", "addresses": ["100.64.0.3"], "tags": ["tag:r"], "routes": ["10.0.0.0/8"]},
            {"name": "gw3", "addresses": ["100.64.0.4"], "tags": ["tag:r"], "routes": ["10.7.0.0/16"]}]}"#;
        let policy = format!(r#"{{"tagOwners": {{"tag:a": [], "tag:r": []}}, "acls": [{rules}]}}"#);
        load(&policy, inventory)
    };
    let accept = r#"{"action": "accept", "src": ["tag:a"], "dst": ["10.0.0.0/8:22"], "proto": "tcp"}"#;
    let deny = r#"{"action": "deny", "src": ["*"], "dst": ["10.5.0.0/16:*"]}"#;
    let added = compare(&of(""), &of(accept), 0).added;
    assert_eq!(added[0].destinations, ["10.0.0.0/8 behind gw and gw2 and gw3 in part"]);
    let added = compare(&of(""), &of(&format!("{deny}, {accept}")), 0).added;
    assert_eq!(
        added[0].destinations,
        [
            "10.0.0.0-10.4.255.255 behind gw and gw2",
            "10.6.0.0-10.255.255.255 behind gw and gw2 and gw3 in part"
        ]
    );
}
