//! What a change adds and removes: exactly what brute force finds.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

#[path = "../common/mod.rs"]
mod common;
mod terms;

use std::collections::BTreeSet;
use std::net::IpAddr;

use bulkhead_policy::diff::{Difference, Flows, Side, diff};
use bulkhead_policy::inventory::{Inventory, Node};
use bulkhead_policy::policy::Action;
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::resolve::Ruleset;
use bulkhead_policy::service;
use common::{addresses, changed_policy_text, hosts_text, inventory_text, load, policy_text, time};
use proptest::prelude::*;

const PORTS: [(u8, u16); 12] = [
    (6, 22),
    (6, 79),
    (6, 80),
    (6, 443),
    (6, 0),
    (6, 65535),
    (17, 53),
    (17, 8080),
    (132, 22),
    (1, 0),
    (58, 0),
    (47, 0),
];
const SECOND: u64 = 1_000_000_000;

/// A loaded side of a change.
type Loaded = (Ruleset, Inventory);

fn compare(old: &Loaded, new: &Loaded, now: u64) -> Difference {
    let old = Side { ruleset: &old.0, inventory: &old.1 };
    diff(old, Side { ruleset: &new.0, inventory: &new.1 }, now).unwrap()
}

/// Whether a flow is there, as the reference evaluator has it: by the router on its way, if the
/// destination is no node's. `None` stands for the way in where no `via` names a router.
fn ways((ruleset, inventory): &Loaded, probe: &Probe, now: u64) -> BTreeSet<Option<String>> {
    let admits = |router| {
        let first = reference::first_of(ruleset, &ruleset.rules, probe, router, now);
        first.is_some_and(|rule| ruleset.rules[rule].action == Action::Accept)
    };
    let named: BTreeSet<u32> =
        ruleset.rules.iter().flat_map(|rule| &rule.blocks).filter_map(|block| block.via).collect();
    let alive = |node: &Node| node.expires.is_none_or(|end| now < end);
    let held = |address: IpAddr| inventory.nodes.iter().position(|node| node.addresses.contains(&address));
    // The nodes that ever enforce for an address: its holder, else routers and receivers.
    let all_hosts = |address: IpAddr| -> Vec<(usize, bool)> {
        let receives = |node: &Node| ruleset.groups_of(node).contains(address);
        let routes = |node: &Node| node.routes.iter().any(|route| route.contains(&address));
        match held(address) {
            Some(index) => vec![(index, false)],
            None => {
                let nodes = inventory.nodes.iter().enumerate();
                nodes.filter(|(_, n)| routes(n) || receives(n)).map(|(i, n)| (i, receives(n))).collect()
            }
        }
    };
    // Those at the time; `None` if it is gone with all of them.
    let hosts = |address: IpAddr| -> Option<Vec<(usize, bool)>> {
        let all = all_hosts(address);
        let living: Vec<_> = all.iter().filter(|(node, _)| alive(&inventory.nodes[*node])).copied().collect();
        let narrow = |(node, receives): &(usize, bool)| {
            let mut routes = inventory.nodes[*node].routes.iter();
            *receives
                || held(address).is_some()
                || routes.any(|route| route.prefix_len() > 0 && route.contains(&address))
        };
        (!living.is_empty() || !all.iter().any(narrow)).then_some(living)
    };
    let (Some(from), Some(to)) = (hosts(probe.source), hosts(probe.destination)) else {
        return BTreeSet::new();
    };
    if !from.is_empty() && !admits(None) {
        return BTreeSet::new();
    }
    if to.is_empty() {
        return if from.is_empty() { BTreeSet::new() } else { BTreeSet::from([None]) };
    }
    let apart = held(probe.destination).is_none()
        && all_hosts(probe.destination)
            .iter()
            .any(|(router, receives)| *receives || named.contains(&(*router as u32)));
    let admitted = to.into_iter().filter(|(router, _)| admits(Some(*router as u32)));
    let name = |(router, receives): (usize, bool)| match receives || named.contains(&(router as u32)) {
        _ if !apart => None,
        true => Some(inventory.nodes[router].name.clone()),
        false => Some("another router".into()),
    };
    admitted.map(name).collect()
}

fn is_in(labels: &[String], name: Option<&str>, address: IpAddr, way: Option<&str>) -> bool {
    labels.iter().any(|label| {
        let split = label.split_once(" via ").or(label.split_once(" at "));
        let (label, via) = split.map_or((&label[..], None), |(l, v)| (l, Some(v)));
        if via != way {
            return false;
        }
        if name.is_some() {
            return name == Some(label);
        }
        let label = label.split_once(" behind ").map_or(label, |(range, _)| range);
        if let Ok(net) = label.parse::<ipnet::IpNet>() {
            return net.contains(&address);
        }
        let (first, last) = label.split_once('-').unwrap_or((label, label));
        let ends: (Result<IpAddr, _>, Result<IpAddr, _>) = (first.parse(), last.parse());
        matches!(ends, (Ok(first), Ok(last)) if first.is_ipv4() == address.is_ipv4() && first <= address && address <= last)
    })
}

fn says(flows: &[Flows], loaded: [&Loaded; 2], probe: &Probe, way: Option<&str>, now: u64) -> bool {
    // The addresses of nodes are the same before and after, in these tests.
    let name = |address| {
        let node = loaded[0].1.nodes.iter().find(|node| node.addresses.contains(&address));
        node.map(|node| node.name.clone())
    };
    let (source, destination) = (name(probe.source), name(probe.destination));
    flows.iter().any(|flow| {
        let family = if probe.source.is_ipv4() { "ipv4" } else { "ipv6" };
        flow.family.is_none_or(|only| only == family)
            && flow.from.is_none_or(|from| from <= now)
            && flow.until.is_none_or(|until| now < until)
            && is_in(&flow.sources, source.as_deref(), probe.source, None)
            && is_in(&flow.destinations, destination.as_deref(), probe.destination, way)
            && flow.services.iter().any(|word| speaks_of(word, probe))
    })
}

fn speaks_of(word: &str, probe: &Probe) -> bool {
    let Some((protocol, ports)) = word.split_once(':') else {
        return word == service::name_of(probe.protocol);
    };
    protocol == service::name_of(probe.protocol)
        && ports.split(',').any(|range| match range.split_once('-') {
            _ if range == "*" => true,
            Some((first, last)) => (first.parse().unwrap()..=last.parse().unwrap()).contains(&probe.port),
            None => range.parse() == Ok(probe.port),
        })
}

fn simple(acls: &str, routers: &str) -> Loaded {
    let policy = format!("{{{acls}, \"tagOwners\": {{\"tag:a\": [], \"tag:b\": [], \"tag:r\": []}}}}");
    let inventory = format!(
        r#"{{"nodes": [
        {{"name": "n1", "addresses": ["100.64.0.1", "fd7a::1"], "tags": ["tag:a"]}},
        {{"name": "n2", "addresses": ["100.64.0.2", "fd7a::2"], "tags": ["tag:b"]}},
        {{"name": "n3", "addresses": ["100.64.0.3"], "tags": ["tag:b"]}} {routers}]}}"#
    );
    load(&policy, &inventory)
}

fn text(flows: &[Flows]) -> Vec<String> {
    let words = |list: &[String]| list.join("+");
    flows
        .iter()
        .map(|flow| {
            let family = flow.family.unwrap_or("");
            format!(
                "{} > {} {} {family}",
                words(&flow.sources),
                words(&flow.destinations),
                words(&flow.services)
            )
        })
        .collect()
}

#[test]
fn one_port_more_and_one_less() {
    let old = simple(
        r#""acls": [{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:22,80"], "proto": "tcp"}]"#,
        "",
    );
    let new = simple(
        r#""acls": [{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:22,81"], "proto": "tcp"}]"#,
        "",
    );
    let difference = compare(&old, &new, 0);
    assert_eq!(text(&difference.added), ["n1 > n2 tcp:81 ipv6", "n1 > n2+n3 tcp:81 ipv4"]);
    assert_eq!(text(&difference.removed), ["n1 > n2 tcp:80 ipv6", "n1 > n2+n3 tcp:80 ipv4"]);
    assert_eq!(compare(&old, &old, 0), Difference::default());
}

#[test]
fn the_order_of_rules_and_their_end_make_a_difference() {
    let accept = r#"{"action": "accept", "src": ["n1"], "dst": ["n2:22"], "proto": "tcp"}"#
        .replace("n1", "100.64.0.1")
        .replace("n2", "100.64.0.2");
    let deny = accept.replace("accept", "deny");
    let of = |rules: &str| simple(&format!("\"acls\": [{rules}]"), "");
    let (first, last) = (of(&format!("{deny}, {accept}")), of(&format!("{accept}, {deny}")));
    assert_eq!(text(&compare(&first, &last, 0).added), ["n1 > n2 tcp:22 ipv4"]);
    let ending = accept.replace("\"proto\"", &format!("\"expires\": \"{}\", \"proto\"", time(100)));
    let removed = compare(&of(&accept), &of(&ending), 0).removed;
    assert_eq!((removed[0].from, removed[0].until), (Some(100 * SECOND), None));
    assert_eq!(compare(&of(&accept), &of(&ending), 0).added, []);
    let added = compare(&of(""), &of(&ending), 50 * SECOND).added;
    assert_eq!((added[0].from, added[0].until), (None, Some(100 * SECOND)));
}

#[test]
fn identities_are_keys() {
    let of = |key: char, address: &str| {
        let node = format!(
            r#", {{"name": "n4", "key": "{}=", "addresses": ["{address}"], "tags": ["tag:a"]}}"#,
            key.to_string().repeat(42) + "A"
        );
        simple(
            r#""acls": [{"action": "accept", "src": ["100.64.0.0/24"], "dst": ["100.64.0.2:22"], "proto": "tcp"}]"#,
            &node,
        )
    };
    // The same key at another address that the same rules hold: nothing changed for n4.
    let moved = compare(&of('A', "100.64.0.8"), &of('A', "100.64.0.9"), 0);
    assert!(!text(&moved.added).iter().any(|flow| flow.starts_with("n4")), "{moved:?}");
    // Another key is another identity, whatever its name.
    let replaced = compare(&of('A', "100.64.0.8"), &of('B', "100.64.0.8"), 0);
    assert_eq!(text(&replaced.added), ["n4 > n2 tcp:22 ipv4"]);
    assert_eq!(text(&replaced.removed), ["n4 > n2 tcp:22 ipv4"]);
}

#[test]
fn another_router_on_the_way_is_a_change() {
    let routers = r#", {"name": "r1", "addresses": ["100.64.0.5"], "tags": ["tag:a"], "routes": ["10.1.0.0/24"]},
        {"name": "r2", "addresses": ["100.64.0.6"], "tags": ["tag:r"], "routes": ["10.1.0.0/24"]}"#;
    let of = |via: &str| {
        simple(
            &format!(
                r#""grants": [{{"src": ["tag:b"], "dst": ["10.1.0.0/24"], "ip": ["tcp:443"], "via": ["{via}"]}}]"#
            ),
            routers,
        )
    };
    let difference = compare(&of("tag:a"), &of("tag:r"), 0);
    assert_eq!(text(&difference.added), ["n2+n3 > 10.1.0.0/24 via r2 tcp:443 ipv4"]);
    assert_eq!(text(&difference.removed), ["n2+n3 > 10.1.0.0/24 via r1 tcp:443 ipv4"]);
}

#[test]
fn a_receiver_that_is_an_exit_too_is_one_gate() {
    let of = |tag: &str| {
        let routers = format!(
            r#", {{"name": "r", "addresses": ["fd7a::9"], "tags": ["{tag}"], "routes": ["::/0", "10.1.0.0/16"]}}"#
        );
        simple(
            r#""grants": [{"src": ["tag:b"], "dst": ["10.1.0.0/16"], "ip": ["*"], "via": ["tag:r"]}],
            "venues": {"venue:x": {"addresses": ["2001:db9::/48"],
                "feeds": [{"from": ["2001:db9::/64"], "to": ["*"], "ports": "53", "groups": ["ff35::/32"]}]}}"#,
            &routers,
        )
    };
    // It is no router of `via` any more, and receives the feed as before.
    let difference = compare(&of("tag:r"), &of("tag:a"), 0);
    assert!(text(&difference.removed).iter().all(|flow| !flow.contains("ff35")), "{difference:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn it_is_what_brute_force_finds(
        policies in prop_oneof![2 => (policy_text(), policy_text()), 3 => changed_policy_text()],
        // Of two that differ neither has workloads: addresses are the same nodes' in both.
        (inventories, same) in prop_oneof![
            inventory_text().prop_map(|text| ((text.clone(), text), true)),
            (hosts_text(), hosts_text()).prop_map(|texts| (texts, false)),
        ],
    ) {
        let old = load(&policies.0, &inventories.0);
        let new = load(&policies.1, if same { &inventories.0 } else { &inventories.1 });
        let difference = compare(&old, &new, 0);
        for now in [0, 99, 120, 250].map(|seconds| seconds * SECOND) {
            for source in addresses() {
                for destination in addresses().into_iter().filter(|to| to.is_ipv4() == source.is_ipv4()) {
                    let overlay = |address, node: &&Node| node.addresses.contains(&address);
                    let holder = |address| old.1.nodes.iter().find(|n| overlay(address, n)).map(|n| n.name.clone());
                    if source == destination || (holder(source).is_some() && holder(source) == holder(destination)) {
                        continue;
                    }
                    let own = if source.is_ipv4() { 58 } else { 1 };
                    for (protocol, port) in PORTS.into_iter().filter(|(protocol, _)| *protocol != own) {
                        let probe = Probe { source, destination, protocol, port };
                        let (before, after) = (ways(&old, &probe, now), ways(&new, &probe, now));
                        for way in before.union(&after) {
                            let way_name = way.as_deref();
                            let added = says(&difference.added, [&old, &new], &probe, way_name, now);
                            let removed = says(&difference.removed, [&old, &new], &probe, way_name, now);
                            prop_assert_eq!(
                                (added, removed),
                                (!before.contains(way), !after.contains(way)),
                                "{:?} {:?} at {}: {:?}\n{}\n{}", probe, way, now, difference, policies.0, policies.1
                            );
                        }
                        if before == after {
                            let silent = !says(&difference.added, [&old, &new], &probe, None, now)
                                && !says(&difference.removed, [&old, &new], &probe, None, now);
                            prop_assert!(silent, "{:?} at {}: {:?}", probe, now, difference);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn venues_and_boundaries_that_are_widened_are_named() {
    let of = |acls: &str, port: &str, to: &str, more: &str| {
        let sections = format!(
            r#""acls": [{acls}], {more}
            "venues": {{"venue:x": {{"addresses": ["198.51.100.0/24"],
                "feeds": [{{"from": ["198.51.100.10"], "to": ["tag:a"], "groups": ["233.54.12.1"], "ports": "53"}}],
                "sessions": [{{"from": ["{to}"], "to": ["198.51.100.20"], "proto": "tcp", "ports": "{port}"}}]}}}}"#
        );
        simple(&sections, "")
    };
    let boundary = r#""boundaries": [{"name": "b", "between": [["tag:a"], ["tag:b"]],
        "only": [{"src": ["tag:a"], "dst": ["tag:b:22-23"], "proto": "tcp"}]}],"#;
    let accept = |ports: &str| {
        format!(r#"{{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:{ports}"], "proto": "tcp"}}"#)
    };
    let names = |old: &Loaded, new: &Loaded| {
        let found = compare(old, new, 0);
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
        (list(&found.widened_venues), list(&found.widened_boundaries))
    };
    let old = of(&accept("22"), "443", "tag:a", boundary);
    // A port more in a session, another identity in one, a rule that crosses within `only`.
    assert_eq!(
        names(&old, &of(&accept("22"), "443-444", "tag:a", boundary)),
        ("venue:x".into(), String::new())
    );
    assert_eq!(names(&old, &of(&accept("22"), "443", "tag:b", boundary)), ("venue:x".into(), String::new()));
    assert_eq!(names(&old, &of(&accept("22-23"), "443", "tag:a", boundary)), (String::new(), "b".into()));
    // Less is not more, and what was a boundary is still one to who compares.
    assert_eq!(names(&old, &of("", "443", "tag:a", boundary)), (String::new(), String::new()));
    assert_eq!(names(&old, &of(&accept("*"), "443", "tag:a", "")), (String::new(), "b".into()));
    let found = compare(&simple("\"acls\": []", ""), &of("", "443", "tag:b", ""), 0);
    assert_eq!(
        text(&found.added),
        ["198.51.100.10 > 233.54.12.1 at n1 udp:53 ipv4", "n2+n3 > 198.51.100.20 tcp:443 ipv4"]
    );
}
