//! Inventories with workloads: what is read, what is refused and where, and what is written again.

use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory, Matches, compose};
use bulkhead_policy::source::Source;

const ENGINE: &str = r#"{"name": "engine", "spiffe": "spiffe://x.y/engine", "addresses": ["100.64.9.1", "fd7a::91"],
    "tags": ["tag:engine"], "match": {"unit": ["engine.service", "engine.socket"]}}"#;

fn read(text: &str) -> (Option<Inventory>, String) {
    let mut findings = Findings::default();
    let parsed = inventory::parse(&Source::new("i", text), &mut findings);
    let errors = findings.has_errors();
    (parsed.filter(|_| !errors), findings.to_string())
}

/// A host with these workloads, the addresses of which it routes.
fn host(workloads: &str) -> String {
    format!(
        r#"{{"nodes": [{{"name": "h", "addresses": ["100.64.0.1"], "tags": ["tag:host"], "routes": ["100.64.9.0/24", "fd7a::90/124", "0.0.0.0/0"],
            "posture": {{"node:os": "linux"}}, "expires": "2030-01-01T00:00:00Z", "workloads": [{workloads}]}},
            {{"name": "other", "addresses": ["100.64.0.2"], "tags": []}}]}}"#
    )
}

#[test]
fn a_workload_is_an_identity_of_its_own_that_ends_with_its_host() {
    let more = r#"{"name": "ci", "addresses": ["100.64.9.3"], "match": {"cgroup": "/ci.slice/job-*.scope"}, "expires": "2029-01-01T00:00:00Z"}"#;
    let late = r#"{"name": "late", "addresses": ["100.64.9.4"], "match": {"unit": "late.slice"}, "expires": "2031-01-01T00:00:00Z"}"#;
    let (inventory, findings) = read(&host(&format!("{ENGINE}, {more}, {late}")));
    let inventory = inventory.unwrap_or_else(|| panic!("{findings}"));
    let (host, engine) = (inventory.node("h").unwrap(), inventory.node("h/engine").unwrap());
    assert_eq!((engine.tags(), engine.routes.len(), engine.key), (&["tag:engine".to_owned()][..], 0, None));
    assert_eq!(
        (engine.expires, engine.host(), inventory.host_of(engine).name.as_str()),
        (host.expires, "h", "h")
    );
    assert_eq!(engine.posture, host.posture, "it runs on that machine");
    assert_eq!(engine.spiffe().unwrap().as_str(), "spiffe://x.y/engine");
    let matches = &engine.workload.as_ref().unwrap().matches;
    assert_eq!(matches.units, ["engine.service", "engine.socket"]);
    assert!(inventory.node("h/ci").unwrap().expires < host.expires);
    assert_eq!(inventory.node("h/late").unwrap().expires, host.expires);
    let names: Vec<_> = inventory.workloads_of("h").map(|node| &*node.name).collect();
    assert_eq!(names, ["h/engine", "h/ci", "h/late"]);
    assert_eq!(inventory.workloads_of("other").count(), 0);
    assert_eq!(inventory.holder("fd7a::91".parse().unwrap()).unwrap().name, "h/engine");
    assert_eq!(inventory.overlay_addresses(host).count(), 5);
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_to_do() {
    let one = |fields: &str| {
        format!(r#"{{"name": "w", "addresses": ["100.64.9.2"], "match": {{"unit": "w.service"}}{fields}}}"#)
    };
    let with = |name: &str, address: &str, matches: &str| {
        format!(r#"{{"name": "{name}", "addresses": ["{address}"], "match": {matches}}}"#)
    };
    for (workloads, wanted) in [
        (with("a/b", "100.64.9.1", r#"{"unit": "a.service"}"#), "\"a/b\" is no name of a workload"),
        (
            with("a", "100.64.8.1", r#"{"unit": "a.service"}"#),
            "h does not route 100.64.8.1, the address of a workload of it",
        ),
        (with("a", "8.8.8.8", r#"{"unit": "a.service"}"#), "add \"8.8.8.8/32\" to its routes"),
        (with("a", "100.64.0.1", r#"{"unit": "a.service"}"#), "h does not route 100.64.0.1"),
        (with("a", "127.0.0.2", r#"{"unit": "a.service"}"#), "127.0.0.2 is a loopback address"),
        (with("a", "::1", r#"{"unit": "a.service"}"#), "::1 is a loopback address"),
        (with("a", "224.0.0.5", r#"{"unit": "a.service"}"#), "224.0.0.5 is a multicast address"),
        (with("a", "ff02::5", r#"{"unit": "a.service"}"#), "ff02::5 is a multicast address"),
        (with("a", "169.254.1.1", r#"{"unit": "a.service"}"#), "169.254.1.1 is a link-local address"),
        (with("a", "fe80::1", r#"{"unit": "a.service"}"#), "fe80::1 is a link-local address"),
        (with("a", "255.255.255.255", r#"{"unit": "a.service"}"#), "255.255.255.255 is a reserved address"),
        (with("a", "0.0.0.1", r#"{"unit": "a.service"}"#), "0.0.0.1 is a reserved address"),
        (
            with("a", "100.64.9.1", r#"{"unit": "system.slice"}"#),
            "system.slice would take /system.slice along",
        ),
        (with("a", "100.64.9.1", r#"{"unit": "user.slice"}"#), "user.slice would take /user.slice along"),
        (with("a", "100.64.9.1", r#"{"unit": "init.scope"}"#), "init.scope would take /init.scope along"),
        (with("a", "100.64.9.1", r#"{"unit": "-.slice"}"#), "-.slice would take /-.slice along"),
        (with("a", "100.64.9.1", r#"{"cgroup": "/*"}"#), "/* would take /-.slice along"),
        (
            with("a", "100.64.9.1", r#"{"cgroup": "/sys*.slice"}"#),
            "/sys*.slice would take /system.slice along",
        ),
        (
            with("a", "100.64.9.1", r#"{"cgroup": "/system.slice/*"}"#),
            "/system.slice/* would take /system.slice/bulkhead.service along",
        ),
        (
            with("a", "100.64.9.1", r#"{"cgroup": "/*/s*.service"}"#),
            "/*/s*.service would take /system.slice/ssh.service along",
        ),
        (with("a", "100.64.9.1", r#"{"unit": "a"}"#), "\"a\" is no name of a unit that has a cgroup"),
        (with("a", "100.64.9.1", r#"{"unit": "a*.service"}"#), "is no name of a unit that has a cgroup"),
        (with("a", "100.64.9.1", r#"{"unit": "a.timer"}"#), "is no name of a unit that has a cgroup"),
        (with("a", "100.64.9.1", r#"{"unit": ".service"}"#), "is no name of a unit that has a cgroup"),
        (with("a", "100.64.9.1", r#"{"cgroup": "ci.slice"}"#), "\"ci.slice\" is no path of a cgroup"),
        (with("a", "100.64.9.1", r#"{"cgroup": "/"}"#), "\"/\" is no path of a cgroup"),
        (with("a", "100.64.9.1", r#"{"cgroup": "/a/../b"}"#), "is no path of a cgroup"),
        (with("a", "100.64.9.1", r#"{"cgroup": "/a/"}"#), "is no path of a cgroup"),
        (with("a", "100.64.9.1", "{}"), "the workload matches no cgroup"),
        (with("a", "100.64.9.1", r#"{"unit": []}"#), "the workload matches no cgroup"),
        (with("a", "100.64.9.1", r#"{"uid": 1000}"#), "unknown field \"uid\" in match"),
        (one(r#", "user": "u@x.y""#), "unknown field \"user\" in a workload"),
        (one(r#", "tags": ["engine"]"#), "\"engine\" is no tag"),
        (
            one(r#", "spiffe": "spiffe://x.y""#),
            "is no SPIFFE ID of a workload: it names a trust domain and no workload",
        ),
        (r#"{"name": "w", "match": {"unit": "w.service"}}"#.to_owned(), "the workload has no \"addresses\""),
        (r#"{"name": "w", "addresses": ["100.64.9.1"]}"#.to_owned(), "the workload has no \"match\""),
        (
            r#"{"addresses": ["100.64.9.1"], "match": {"unit": "w.service"}}"#.to_owned(),
            "the workload has no \"name\"",
        ),
        (
            format!("{ENGINE}, {}", with("b", "100.64.9.1", r#"{"unit": "b.service"}"#)),
            "100.64.9.1 is held by h/engine and by h/b",
        ),
        (
            format!("{ENGINE}, {}", with("engine", "100.64.9.2", r#"{"unit": "b.service"}"#)),
            "the name is held by two nodes named h/engine",
        ),
        (
            format!("{ENGINE}, {}", with("b", "100.64.9.2", r#"{"unit": ["b.service", "engine.socket"]}"#)),
            "h/b and h/engine would both be cgroups that engine.socket and engine.socket match",
        ),
        (
            format!(
                "{ENGINE}, {}",
                with("b", "100.64.9.2", r#"{"cgroup": "/system.slice/engine.service/inner"}"#)
            ),
            "h/b and h/engine would both be cgroups",
        ),
    ] {
        let (parsed, findings) = read(&host(&workloads));
        assert!(parsed.is_none() && findings.contains(wanted), "{workloads}\n{findings}");
        assert!(findings.contains("i:"), "{findings}");
    }
    // The other host's address is not this one's either.
    let (parsed, findings) = read(&host(&with("a", "100.64.0.2", r#"{"unit": "a.service"}"#)));
    assert!(parsed.is_none() && findings.contains("100.64.0.2"), "{findings}");
    // Both places of an overlap are told.
    let text = host(&format!("{ENGINE}, {}", with("b", "100.64.9.2", r#"{"unit": "engine.service"}"#)));
    let mut findings = Findings::default();
    inventory::parse(&Source::new("i", &text), &mut findings);
    let [error] = &findings.0[..] else { panic!("{findings}") };
    assert_eq!(error.related.len(), 1);
    assert_eq!(error.related[0].message, "h/engine matches here");
    // The same units on two hosts are replicas.
    let replicas = r#"{"nodes": [
        {"name": "a", "addresses": ["100.64.0.1"], "routes": ["100.64.9.1/32"], "workloads": [{"name": "w", "addresses": ["100.64.9.1"], "spiffe": "spiffe://x/w", "match": {"unit": "w.service"}}]},
        {"name": "b", "addresses": ["100.64.0.2"], "routes": ["100.64.9.2/32"], "workloads": [{"name": "w", "addresses": ["100.64.9.2"], "spiffe": "spiffe://x/w", "match": {"unit": "w.service"}}]}]}"#;
    let (parsed, findings) = read(replicas);
    assert!(parsed.is_some() && !findings.contains("error"), "{findings}");
}

#[test]
fn an_inventory_that_is_written_again_has_the_same_workloads() {
    let more = r#"{"name": "ci", "addresses": ["100.64.9.3"], "tags": [], "match": {"cgroup": ["/ci.slice/job-*.scope"], "unit": "ci.slice"}, "expires": "2029-01-01T00:00:00Z"}"#;
    // A pattern below its own slice is one workload's.
    let (first, findings) = read(&host(&format!("{ENGINE}, {more}")));
    let first = first.unwrap_or_else(|| panic!("{findings}"));
    let text = compose(&first, &[]).text;
    let (second, findings) = read(&text);
    let second = second.unwrap_or_else(|| panic!("{findings}\n{text}"));
    let all = |inventory: &Inventory| -> Vec<_> {
        let of = |node: &inventory::Node| {
            (
                node.name.clone(),
                node.addresses.clone(),
                node.owner.clone(),
                node.expires,
                node.workload.clone(),
            )
        };
        inventory.nodes.iter().map(of).collect()
    };
    assert_eq!(all(&first), all(&second), "{text}");
    assert_eq!(compose(&second, &[]).text, text);
}

#[test]
fn a_cgroup_is_matched_by_its_unit_or_its_path() {
    let matches =
        Matches { units: vec!["engine.service".into()], cgroups: vec!["/ci.slice/job-*.scope".into()] };
    assert!(matches.is("/system.slice/engine.service") && matches.is("/ci.slice/job-7.scope"));
    assert!(!matches.is("/system.slice/engine.service/sub") && !matches.is("/x/ci.slice/job-7.scope"));
}

#[test]
fn only_its_host_routes_a_workload() {
    let routed = |of_host: &str, of_other: &str| {
        format!(
            r#"{{"nodes": [
  {{"name": "other", "addresses": ["100.64.0.2"], "routes": [{of_other}], "tags": []}},
  {{"name": "h", "addresses": ["100.64.0.1"], "routes": [{of_host}], "tags": [], "workloads": [
    {{"name": "w", "addresses": ["100.64.9.1"], "tags": [], "match": {{"unit": "w.service"}}}}]}}]}}"#
        )
    };
    let narrow = r#""100.64.9.1/32""#;
    for (of_host, of_other) in
        [(narrow, r#""0.0.0.0/0""#), (narrow, r#""100.64.9.0/24""#), (narrow, r#""100.64.9.2/32""#)]
    {
        let (parsed, findings) = read(&routed(of_host, of_other));
        assert!(parsed.is_some(), "{of_other}: {findings}");
    }
    for (of_host, of_other) in [
        (narrow, narrow),
        (r#""100.64.9.0/24""#, r#""10.0.0.0/8", "100.64.9.0/24""#),
        (r#""100.64.9.0/24""#, narrow),
        (r#""100.64.9.0/24""#, r#""100.64.9.1""#),
    ] {
        let text = routed(of_host, of_other);
        let mut findings = Findings::default();
        inventory::parse(&Source::new("i", &text), &mut findings);
        let [error] = &findings.0[..] else { panic!("{findings}") };
        assert!(error.message.starts_with("100.64.9.1 of h/w is in a route of other as well"), "{findings}");
        assert_eq!(error.related[0].message, "other routes it here");
        // Both places: by lines.
        let lines = [error.location.as_ref().unwrap().position.line, error.related[0].location.position.line];
        assert_eq!(lines, [4, 2], "{findings}");
    }
}
