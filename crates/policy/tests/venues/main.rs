//! Venues: their lanes and nothing else, on both networks; what overlaps one is refused.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod overlaps;
mod wide;

use std::net::IpAddr;

use bulkhead_abi::{
    CELL_EXEMPT, CELL_ONE_WAY, Direction, FEATURE_EXEMPT, FEATURE_GROUPS, FEATURE_LIMITS, FEATURE_ROUTES,
    Rate, from_ip,
};
use bulkhead_engine::Reason;
use bulkhead_engine::leaf_of;
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::diagnostic::{Findings, Severity};
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::inventory::{self, Inventory, Network};
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::resolve::{Exemptions, Management, PeerPorts, Ruleset, WireGuard, resolve_with};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, policy};

const INVENTORY: &str = r#"{"nodes": [
    {"name": "engine-1", "addresses": ["100.64.0.1", "fd7a::1"], "underlay": ["203.0.113.7"], "tags": ["tag:engine"]},
    {"name": "gateway-1", "addresses": ["100.64.0.2"], "underlay": ["203.0.113.8", "198.51.100.200"], "tags": ["tag:gateway"]},
    {"name": "dev-1", "addresses": ["100.64.0.3"], "tags": ["tag:dev"]},
    {"name": "exit-1", "addresses": ["100.64.0.4"], "tags": ["tag:exit"], "routes": ["0.0.0.0/0", "10.1.0.0/16"]}]}"#;

const VENUE: &str = r#""venues": {"venue:x": {
    "addresses": ["198.51.100.0/24"],
    "feeds": [
        {"from": ["198.51.100.10", "198.51.100.11"], "to": ["tag:engine"], "proto": "tcp", "ports": "9090", "maxPacketsPerSecond": 500000},
        {"from": ["198.51.100.12"], "to": ["tag:engine"], "proto": "udp", "ports": "26400", "oneWay": true},
        {"name": "incremental", "from": ["198.51.100.32/29"], "to": ["tag:engine"], "groups": ["233.54.12.0/24"], "ports": "26401"}],
    "sessions": [{"from": ["tag:gateway"], "to": ["198.51.100.20"], "proto": "tcp", "ports": "443", "maxNewPerSecond": 10}]}}"#;

const TAGS: &str = r#""tagOwners": {"tag:engine": [], "tag:gateway": [], "tag:dev": [], "tag:exit": []}"#;

fn load_with(
    sections: &str,
    inventory: &str,
    network: Network,
    exemptions: &Exemptions,
) -> (Ruleset, Inventory, Findings) {
    let mut findings = Findings::default();
    let text = format!("{{{sections}, {TAGS}}}");
    let inventory = inventory::parse(&Source::new("inventory", inventory), &mut findings).unwrap();
    let policy = policy::parse(&Source::new("policy", &text), Dialect::Bulkhead, &mut findings).unwrap();
    let ruleset = resolve_with(&policy, &inventory, Dialect::Bulkhead, network, exemptions, &mut findings);
    (ruleset, inventory, findings)
}

fn load(acls: &str, network: Network) -> (Ruleset, Inventory) {
    let (ruleset, inventory, findings) =
        load_with(&format!("\"acls\": [{acls}], {VENUE}"), INVENTORY, network, &Exemptions::default());
    assert!(!findings.has_errors(), "{findings}");
    (ruleset, inventory)
}

fn errors(sections: &str) -> Vec<String> {
    let (.., mut findings) = load_with(sections, INVENTORY, Network::Overlay, &Exemptions::default());
    findings.sort();
    let errors = findings.0.into_iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| finding.message).collect()
}

fn probe(source: &str, destination: &str, protocol: u8, port: u16) -> Probe {
    let [source, destination] = [source, destination].map(|address| address.parse::<IpAddr>().unwrap());
    Probe { source, destination, protocol, port }
}

/// What the tables and the reference say, which must agree: the reason and the rule's title.
fn judged(
    (ruleset, inventory): &(Ruleset, Inventory),
    node: &str,
    direction: Direction,
    probe: &Probe,
) -> (Reason, Option<String>) {
    let program = compile(ruleset, inventory, node, Limits::default()).unwrap();
    let found = evaluate(&environment(&program.tables, 0), direction, probe);
    let rule = found.rule.map(|rule| program.rules[rule as usize]);
    let naive = reference::judge(ruleset, inventory, inventory.node(node).unwrap(), direction, probe, 0);
    assert_eq!(rule, naive.rule(), "{node} {direction:?} {probe:?}: {found:?}, {naive:?}");
    assert_eq!(found.reason == Reason::Rule, naive.allows());
    (found.reason, rule.map(|rule| ruleset.rules[rule].title()))
}

fn default_deny() -> (Reason, Option<String>) {
    (Reason::VenueDefaultDeny, Some("venue:x default deny".into()))
}

#[test]
fn a_venue_admits_its_lanes_and_nothing_else_whatever_the_rules_say() {
    let everything = r#"{"action": "accept", "src": ["autogroup:danger-all"], "dst": ["*:*"]},
        {"action": "accept", "src": ["*"], "dst": ["autogroup:internet:*", "0.0.0.0/0:*"]}"#;
    for (network, engine, gateway) in
        [(Network::Overlay, "100.64.0.1", "100.64.0.2"), (Network::Underlay, "203.0.113.7", "203.0.113.8")]
    {
        let loaded = load(everything, network);
        let at = |node, direction, probe: Probe| judged(&loaded, node, direction, &probe);
        let (ingress, egress) = (Direction::Ingress, Direction::Egress);
        let lane = |name: &str| (Reason::Rule, Some(name.to_string()));
        for source in ["198.51.100.10", "198.51.100.11"] {
            assert_eq!(at("engine-1", ingress, probe(source, engine, 6, 9090)), lane("venue:x feed 1"));
        }
        assert_eq!(
            at("engine-1", ingress, probe("198.51.100.12", engine, 17, 26400)),
            lane("venue:x feed 2")
        );
        assert_eq!(
            at("gateway-1", egress, probe(gateway, "198.51.100.20", 6, 443)),
            lane("venue:x session 1")
        );
        for (node, direction, probe) in [
            ("engine-1", ingress, probe("198.51.100.10", engine, 6, 9091)),
            ("engine-1", ingress, probe("198.51.100.10", engine, 17, 9090)),
            ("engine-1", ingress, probe("198.51.100.10", engine, 1, 0)),
            ("engine-1", ingress, probe("198.51.100.10", engine, 132, 9090)),
            ("engine-1", ingress, probe("198.51.100.10", engine, 47, 0)),
            ("engine-1", ingress, probe("198.51.100.13", engine, 6, 9090)),
            ("engine-1", egress, probe(engine, "198.51.100.10", 6, 9090)),
            ("engine-1", egress, probe(engine, "198.51.100.20", 6, 443)),
            ("gateway-1", ingress, probe("198.51.100.10", gateway, 6, 9090)),
            ("gateway-1", ingress, probe("198.51.100.20", gateway, 6, 443)),
            ("gateway-1", egress, probe(gateway, "198.51.100.21", 6, 443)),
            ("gateway-1", egress, probe(gateway, "233.54.12.1", 17, 26401)),
        ] {
            assert_eq!(at(node, direction, probe), default_deny(), "{network:?} {node} {probe:?}");
        }
    }
    // Not even through an exit node, which routes everything.
    let loaded = load(everything, Network::Overlay);
    let through = probe("100.64.0.3", "198.51.100.20", 6, 443);
    assert_eq!(judged(&loaded, "exit-1", Direction::Ingress, &through), default_deny());
    let elsewhere = probe("100.64.0.3", "198.51.101.20", 6, 443);
    assert_eq!(judged(&loaded, "exit-1", Direction::Ingress, &elsewhere).0, Reason::Rule);
}

#[test]
fn own_addresses_within_a_venue_are_not_the_venue() {
    let loaded = load("", Network::Underlay);
    let own = probe("203.0.113.7", "198.51.100.200", 6, 443);
    assert_eq!(judged(&loaded, "gateway-1", Direction::Ingress, &own), (Reason::NoRule, None));
    let rule = r#"{"action": "accept", "src": ["198.51.100.200"], "dst": ["tag:engine:22"]}"#;
    assert_eq!(errors(&format!("\"acls\": [{rule}], {VENUE}")), [""; 0]);
}

#[test]
fn groups_are_received_where_the_feed_leads_and_sent_to_nowhere() {
    let loaded = load("", Network::Underlay);
    let (ruleset, inventory) = &loaded;
    let group = probe("198.51.100.33", "233.54.12.9", 17, 26401);
    let (ingress, egress) = (Direction::Ingress, Direction::Egress);
    assert_eq!(judged(&loaded, "engine-1", ingress, &group), (Reason::Rule, Some("incremental".into())));
    for wrong in [
        probe("198.51.100.10", "233.54.12.9", 17, 26401),
        probe("198.51.100.33", "233.54.12.9", 17, 26402),
        probe("192.0.2.1", "233.54.12.9", 17, 26401),
        probe("203.0.113.8", "233.54.12.9", 17, 26401),
    ] {
        assert_eq!(judged(&loaded, "engine-1", ingress, &wrong), default_deny(), "{wrong:?}");
    }
    // Another group of no feed, another receiver, and the way out.
    let other = probe("198.51.100.33", "233.54.13.9", 17, 26401);
    assert_eq!(judged(&loaded, "engine-1", ingress, &other).0, Reason::NotLocal);
    assert_eq!(judged(&loaded, "gateway-1", ingress, &group).0, Reason::NotLocal);
    let out = probe("203.0.113.7", "233.54.12.9", 17, 26401);
    assert_eq!(judged(&loaded, "engine-1", egress, &out).0, Reason::NotLocal);
    let program = compile(ruleset, inventory, "engine-1", Limits::default()).unwrap();
    assert!(program.tables.features() & FEATURE_GROUPS != 0);
    let environment = environment(&program.tables, 0);
    let leaf = |address: &str| leaf_of(&environment, 4, &from_ip(address.parse().unwrap())).unwrap();
    assert!(leaf("233.54.12.0").own() && leaf("233.54.12.255").own() && !leaf("233.54.13.0").own());
    let gateway = compile(ruleset, inventory, "gateway-1", Limits::default()).unwrap();
    assert_eq!(gateway.tables.features() & FEATURE_GROUPS, 0);
}

fn cell(program: &Program, ruleset: &Ruleset, title: &str) -> bulkhead_abi::Cell {
    let rule = program.rules.iter().position(|rule| ruleset.rules[*rule].title() == title).unwrap();
    *program.tables.cells.iter().find(|cell| cell.rule == rule as u32).unwrap()
}

#[test]
fn limits_and_flags_are_in_the_cells() {
    let limited = r#"{"name": "ssh", "action": "accept", "src": ["tag:dev"], "dst": ["tag:engine:22"], "maxNewPerSecond": 3, "maxPacketsPerSecond": 7},
        {"name": "plain", "action": "accept", "src": ["tag:dev"], "dst": ["tag:engine:80"]}"#;
    let (ruleset, inventory) = load(limited, Network::Overlay);
    let program = compile(&ruleset, &inventory, "engine-1", Limits::default()).unwrap();
    let limit = |title| program.tables.limits[usize::from(cell(&program, &ruleset, title).limit)];
    assert_eq!(limit("venue:x feed 1").packets, Rate { interval: 2000, tolerance: 10_000_000 });
    assert_eq!(limit("venue:x feed 1").new_flows, Rate::default());
    assert_eq!(limit("ssh").new_flows, Rate { interval: 333_333_334, tolerance: 1_000_000_000 });
    assert_eq!(limit("ssh").packets, Rate { interval: 142_857_143, tolerance: 142_857_143 });
    assert_eq!(cell(&program, &ruleset, "plain").limit, 0);
    assert_eq!(cell(&program, &ruleset, "venue:x feed 1").flags, 0);
    assert_eq!(cell(&program, &ruleset, "venue:x feed 2").flags, CELL_ONE_WAY);
    assert_eq!(cell(&program, &ruleset, "incremental").flags, CELL_ONE_WAY);
    assert_eq!(program.tables.features(), FEATURE_LIMITS | FEATURE_GROUPS | FEATURE_ROUTES);
    assert_eq!(program.tables.limits.len(), 3);
}

#[test]
fn on_the_underlay_only_venues_are_compiled_and_numbers_are_the_same() {
    let acl = r#"{"action": "accept", "src": ["*"], "dst": ["*:*"]}"#;
    let numbers = |network| -> Vec<(u32, String)> {
        load(acl, network).0.rules.iter().map(|rule| (rule.number, rule.title())).collect()
    };
    let (overlay, underlay) = (numbers(Network::Overlay), numbers(Network::Underlay));
    assert_eq!(underlay.len(), 5);
    assert_eq!(overlay[..5], underlay);
    assert_eq!(overlay[5], (1, "rule 1".into()));
    assert_eq!(overlay[0], (2, "venue:x feed 1".into()));
    let loaded = load(acl, Network::Underlay);
    let between = probe("203.0.113.7", "203.0.113.8", 6, 22);
    assert_eq!(judged(&loaded, "engine-1", Direction::Egress, &between), (Reason::NoRule, None));
    let routed = probe("198.51.100.20", "10.1.0.1", 6, 22);
    assert_eq!(judged(&loaded, "exit-1", Direction::Ingress, &routed).0, Reason::NotLocal);
}

#[test]
fn a_venue_is_not_reached_by_its_addresses_in_nat64() {
    let rule = r#""acls": [{"action": "accept", "src": ["tag:dev"], "dst": ["[64:ff9b::c633:6414]:443"]}]"#;
    let said = errors(&format!("{rule}, {VENUE}"));
    assert!(said[0].starts_with("\"64:ff9b::c633:6414/128\" overlaps venue:x"), "{said:?}");
    let elsewhere = rule.replace("c633:6414", "c633:6514");
    assert_eq!(errors(&format!("{elsewhere}, {VENUE}")), [""; 0]);
    let inventory = INVENTORY.replace("10.1.0.0/16", "64:ff9b::/96");
    let sections = format!("\"acls\": [], {VENUE}");
    let (.., findings) = load_with(&sections, &inventory, Network::Overlay, &Exemptions::default());
    assert!(findings.to_string().contains("the route 64:ff9b::/96 of exit-1 overlaps venue:x"), "{findings}");
}

#[test]
fn our_end_of_a_lane_is_ours() {
    let lane = |end: &str, more: &str| {
        errors(&format!(
            r#""acls": [], "hosts": {{"any": "0.0.0.0/0"}}, "ipsets": {{"ipset:all": ["0.0.0.0/0"]}},
            "venues": {{"venue:x": {{"addresses": ["198.51.100.0/24"],
                "feeds": [{{"from": ["198.51.100.1"], "to": ["{end}"], "proto": "tcp", "ports": "1"{more}}}],
                "sessions": [{{"from": ["{end}"], "to": ["198.51.100.1"], "proto": "tcp", "ports": "1"{more}}}]}}}}"#
        ))
    };
    for end in ["autogroup:internet", "autogroup:danger-all", "0.0.0.0/0", "any", "ipset:all"] {
        let said = lane(end, "");
        let wanted = |error: &String| error.ends_with("is no end of ours: it holds addresses of a venue");
        assert!(said.len() == 2 && said.iter().all(wanted), "{end}: {said:?}");
    }
    // A star is whoever is known: the exit node's route to everything is not among them.
    for end in ["*", "tag:engine", "10.1.0.0/16", "::/0"] {
        assert_eq!(lane(end, ""), [""; 0], "{end}");
    }
}

#[test]
fn a_lane_leads_to_the_venue_and_says_what_passes() {
    let lane = |feeds: &str, sessions: &str| {
        errors(&format!(
            r#""acls": [], "venues": {{"venue:x": {{"addresses": ["198.51.100.0/24", "2001:db8::/32"], "feeds": [{feeds}], "sessions": [{sessions}]}}}}"#
        ))
    };
    let feed = |more: &str| lane(&format!(r#"{{"from": ["198.51.100.1"], "to": ["tag:engine"]{more}}}"#), "");
    assert_eq!(feed(r#", "proto": "tcp", "ports": "1""#), [""; 0]);
    assert_eq!(feed(r#", "proto": "icmp""#), [""; 0]);
    assert_eq!(feed(r#", "groups": ["ff35::/32", "239.1.2.3"], "ports": "1""#), [""; 0]);
    for (more, wanted) in [
        ("", "the feed has no \"proto\""),
        (r#", "proto": "tcp""#, "the feed has no \"ports\""),
        (r#", "proto": "tpc", "ports": "1""#, "unknown protocol \"tpc\""),
        (r#", "proto": "icmp", "ports": "1""#, "protocol \"icmp\" has no ports"),
        (r#", "proto": "tcp", "ports": "1", "oneWay": true"#, "only a UDP feed can be one-way"),
        (r#", "ports": "1", "groups": ["224.0.0.0/23"]"#, "\"224.0.0.0/23\" is link-local multicast"),
        (r#", "ports": "1", "groups": ["ff02::/64"]"#, "\"ff02::/64\" is link-local multicast"),
        (r#", "ports": "1", "groups": ["198.51.100.0/24"]"#, "\"198.51.100.0/24\" is no multicast prefix"),
        (r#", "ports": "1", "groups": ["239.0.0.1"], "proto": "tcp""#, "a multicast feed is UDP"),
        (
            r#", "proto": "tcp", "ports": "1", "maxPacketsPerSecond": 0"#,
            "maxPacketsPerSecond must be a whole number from 1 to 1000000000",
        ),
    ] {
        assert!(feed(more).iter().any(|error| error == wanted), "{more}: {:?}", feed(more));
    }
    let outside = r#"{"from": ["198.51.0.0/16"], "to": ["tag:engine"], "proto": "tcp", "ports": "1"}"#;
    assert_eq!(lane(outside, ""), ["\"198.51.0.0/16\" is not within venue:x's addresses"]);
    let session =
        r#"{"from": ["tag:engin"], "to": ["192.0.2.1"], "proto": "tcp", "ports": "1", "oneWay": true}"#;
    let found = lane("", session);
    assert!(found.iter().any(|error| error.contains("unknown field \"oneWay\"")), "{found:?}");
    assert!(found.iter().any(|error| error == "tag not found: \"tag:engin\""), "{found:?}");
    assert!(
        found.iter().any(|error| error == "\"192.0.2.1/32\" is not within venue:x's addresses"),
        "{found:?}"
    );
    let deny = r#""acls": [{"action": "deny", "src": ["*"], "dst": ["*:*"], "maxNewPerSecond": 1}]"#;
    assert_eq!(errors(deny), ["a deny has no rate: it admits nothing"]);
}

#[test]
fn what_the_agent_exempts_comes_first_and_touches_no_venue() {
    let exemptions = Exemptions {
        node: "gateway-1".into(),
        management: vec![Management {
            sources: vec!["192.0.2.0/24".parse().unwrap()],
            ports: vec![22],
            location: None,
        }],
        wireguard: vec![WireGuard {
            port: 51820,
            peers: vec!["203.0.113.0/24".parse().unwrap()],
            peer_ports: PeerPorts::Of(vec![51821]),
            location: None,
        }],
        overlays: Vec::new(),
        underlay: None,
    };
    let deny = r#""acls": [{"action": "deny", "src": ["*"], "dst": ["*:*"]}]"#;
    let (ingress, egress) = (Direction::Ingress, Direction::Egress);
    for (network, own) in [(Network::Overlay, "100.64.0.2"), (Network::Underlay, "203.0.113.8")] {
        let (ruleset, inventory, findings) =
            load_with(&format!("{deny}, {VENUE}"), INVENTORY, network, &exemptions);
        assert!(!findings.has_errors(), "{findings}");
        let loaded = (ruleset, inventory);
        let management = judged(&loaded, "gateway-1", ingress, &probe("192.0.2.9", own, 6, 22));
        assert_eq!(management, (Reason::Rule, Some("management exemption 1".into())));
        assert_ne!(judged(&loaded, "gateway-1", ingress, &probe("192.0.2.9", own, 17, 22)).0, Reason::Rule);
        assert_ne!(judged(&loaded, "gateway-1", egress, &probe(own, "192.0.2.9", 6, 22)).0, Reason::Rule);
        assert_ne!(
            judged(&loaded, "engine-1", ingress, &probe("192.0.2.9", "100.64.0.1", 6, 22)).0,
            Reason::Rule
        );
        let begins = judged(&loaded, "gateway-1", ingress, &probe("203.0.113.50", own, 17, 51820)).0;
        let answers = judged(&loaded, "gateway-1", egress, &probe(own, "203.0.113.50", 17, 51821)).0;
        let wanted = network == Network::Underlay;
        assert_eq!((begins == Reason::Rule, answers == Reason::Rule), (wanted, wanted));
        let program = compile(&loaded.0, &loaded.1, "gateway-1", Limits::default()).unwrap();
        assert_eq!(cell(&program, &loaded.0, "management exemption 1").flags, CELL_EXEMPT);
        assert!(program.tables.features() & FEATURE_EXEMPT != 0);
        let numbers: Vec<u32> = loaded.0.rules.iter().map(|rule| rule.number).collect();
        assert_eq!(numbers[..3], [7, 8, 2]);
    }
    for net in ["198.51.100.0/25", "0.0.0.0/0"] {
        let mut wide = exemptions.clone();
        wide.management[0].sources = vec![net.parse().unwrap()];
        wide.wireguard[0].peers = vec![net.parse().unwrap()];
        let (.., findings) = load_with(&format!("{deny}, {VENUE}"), INVENTORY, Network::Underlay, &wide);
        let errors: Vec<&str> = findings
            .0
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| finding.message.as_str())
            .collect();
        let [first, second] = ["management exemption 1", "wireguard transport 1"]
            .map(|what| format!("{what}: \"{net}\" overlaps venue:x"));
        assert_eq!(errors, [first, second]);
    }
}

#[test]
fn more_venues_or_boundaries_than_anybody_has_are_refused() {
    let venues: String = (0..501)
        .map(|i| format!("\"venue:v{i}\": {{\"addresses\": [\"10.{}.{}.0/24\"]}},", i / 256, i % 256))
        .collect();
    assert_eq!(errors(&format!("\"acls\": [], \"venues\": {{{venues}}}")), ["more than 500 venues"]);
    let boundaries: String = (0..501)
        .map(|i| format!("{{\"name\": \"b{i}\", \"between\": [[\"tag:dev\"], [\"tag:exit\"]]}},"))
        .collect();
    assert_eq!(
        errors(&format!("\"acls\": [], \"boundaries\": [{boundaries}]")),
        ["more than 500 boundaries"]
    );
}
