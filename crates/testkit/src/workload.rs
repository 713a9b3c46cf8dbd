//! Inventory and policy of any size: many tags, groups and networks, rules of two selectors on each
//! side; routers, grants with `via`, postures, two venues and a boundary. Deterministic. `bench`
//! measures the compiler on the same.

use std::fmt::Write as _;

/// Distinct selectors, 1,000 at most: tags, groups, networks, `*` on each side of accepts and
/// denies, and what venues, grants and the boundary add.
const TAGS: u64 = 640;
const GROUPS: u64 = 200;
const NETWORKS: u64 = 80;
/// One node in so many is a legal entity's, by turns of the one and of the other, among the first
/// nodes: 200 each, of as many combinations of tags.
const ENTITIES: u64 = 50;
const WITH_ENTITIES: u64 = 20_000;
/// One node in so many reports that its disk is encrypted.
const ENCRYPTED: u64 = 3;
/// Nodes with an address on the exchanges' network, and nodes that route one of the networks.
const ON_EXCHANGES: u64 = 64;
const ROUTERS: u64 = 16;
const USERS: u64 = 2000;

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

/// Inventory and policy of so many nodes and rules. The node `n0` is among them.
pub fn texts(nodes: u64, rules: u64) -> (String, String) {
    let mut random = Random(1);
    let inventory = inventory_text(&mut random, nodes);
    (inventory, policy_text(&mut random, rules))
}

fn inventory_text(random: &mut Random, nodes: u64) -> String {
    let mut text = String::from("{\"nodes\": [\n");
    for index in 0..nodes {
        let address = 0x6440_0000 + index * 4 + random.below(4);
        let v4 = std::net::Ipv4Addr::from(address as u32);
        let v6 = std::net::Ipv6Addr::from((0xfd7a_115c_a1e0 << 80) | u128::from(address));
        let mut owner = if random.below(5) == 0 && index >= ON_EXCHANGES {
            let encrypted = random.below(ENCRYPTED) == 0;
            let login = random.below(USERS);
            format!("\"user\": \"u{login}@example.com\", \"posture\": {{\"custom:encrypted\": {encrypted}}}")
        } else {
            let mut tags: Vec<String> =
                (0..1 + random.below(3)).map(|_| format!("\"tag:t{}\"", random.below(TAGS))).collect();
            match index % (2 * ENTITIES) {
                _ if index >= WITH_ENTITIES => {}
                1 => tags.push("\"tag:eu\"".into()),
                entity if entity == ENTITIES => tags.push("\"tag:us\"".into()),
                _ => {}
            }
            if (1..=ROUTERS).contains(&(index / 2)) && index % 2 == 1 {
                tags = vec!["\"tag:router\"".into()];
            }
            format!("\"tags\": [{}]", tags.join(", "))
        };
        if owner.contains("tag:router") {
            owner += &format!(", \"routes\": [\"10.{}.0.0/16\"]", index % NETWORKS);
        }
        if index < ON_EXCHANGES {
            owner += &format!(", \"underlay\": [\"203.0.113.{index}\"]");
        }
        let comma = if index + 1 == nodes { "" } else { "," };
        let line =
            format!("{{\"name\": \"n{index}\", \"addresses\": [\"{v4}\", \"{v6}\"], {owner}}}{comma}\n");
        text.push_str(&line);
    }
    text + "]}"
}

fn selector(random: &mut Random) -> String {
    match random.below(1000) {
        0 => "*".into(),
        1..700 => format!("tag:t{}", random.below(TAGS)),
        700..900 => format!("group:g{}", random.below(GROUPS)),
        _ => format!("10.{}.0.0/16", random.below(NETWORKS)),
    }
}

/// Grants among the rules.
const GRANTS: u64 = 60;

const VENUES: &str = r#"],
"venues": {
    "venue:a": {"addresses": ["198.51.100.0/24"],
        "feeds": [{"from": ["198.51.100.10", "198.51.100.11"], "to": ["tag:t1"], "proto": "tcp", "ports": "9090", "maxPacketsPerSecond": 500000},
                  {"from": ["198.51.100.32/29"], "to": ["tag:t2"], "groups": ["233.54.12.0/24"], "ports": "26400-26401"}],
        "sessions": [{"from": ["tag:t3"], "to": ["198.51.100.20"], "proto": "tcp", "ports": "443", "maxNewPerSecond": 10}]},
    "venue:b": {"addresses": ["192.0.2.0/25", "2001:db8:7::/48"],
        "sessions": [{"from": ["tag:t1", "tag:t3"], "to": ["192.0.2.20", "2001:db8:7::20"], "proto": "tcp", "ports": "443-444"}]}
},
"boundaries": [{"name": "eu-us", "between": [["tag:eu"], ["tag:us"]],
    "only": [{"src": ["tag:eu"], "dst": ["tag:us:8443"], "proto": "tcp"}]}],
"postures": {"posture:p0": ["custom:encrypted"], "posture:p1": ["custom:encrypted IS SET"]},
"#;

fn policy_text(random: &mut Random, rules: u64) -> String {
    let mut text = String::from("{\"acls\": [\n");
    // Whatever the rules below say, the entities do not reach each other but for their ledgers.
    text.push_str(
        r#"{"name": "ledgers", "action": "accept", "src": ["tag:eu"], "dst": ["tag:us:8443"], "proto": "tcp", "maxNewPerSecond": 100},
{"action": "deny", "src": ["tag:eu"], "dst": ["tag:us:*"]},
{"action": "deny", "src": ["tag:us"], "dst": ["tag:eu:*"]},
"#,
    );
    for _ in 0..rules.saturating_sub(3 + GRANTS) {
        let action = if random.below(10) == 0 { "deny" } else { "accept" };
        let port = 1 + random.below(200) * 50;
        let (src, dst) = (selector(random), selector(random));
        let (more_src, more_dst) = (selector(random), selector(random));
        let _ = writeln!(
            text,
            "{{\"action\": \"{action}\", \"src\": [\"{src}\", \"{more_src}\"], \"dst\": [\"{dst}:{port}\", \"{more_dst}:{port}\"]}},"
        );
    }
    text.push_str("], \"grants\": [\n");
    for grant in 0..GRANTS.min(rules) {
        let (src, net) = (selector(random), random.below(NETWORKS));
        let condition = match grant % 3 {
            0 => r#", "via": ["tag:router"]"#.to_string(),
            1 => format!(r#", "srcPosture": ["posture:p{}"]"#, grant % 2),
            _ => String::new(),
        };
        let src = if grant % 3 == 1 { format!("group:g{}", grant % 10) } else { src };
        let _ = writeln!(
            text,
            "{{\"src\": [\"{src}\"], \"dst\": [\"10.{net}.0.0/16\"], \"ip\": [\"tcp:443\", \"udp:53\"]{condition}}},"
        );
    }
    text.push_str(VENUES);
    text.push_str("\"tagOwners\": {\"tag:eu\": [], \"tag:us\": [], \"tag:router\": [],\n");
    (0..TAGS).for_each(|tag| text.push_str(&format!("\"tag:t{tag}\": [],\n")));
    text.push_str("}, \"groups\": {\n");
    for group in 0..GROUPS {
        let members: Vec<String> =
            (0..10).map(|_| format!("\"u{}@example.com\"", random.below(USERS))).collect();
        text.push_str(&format!("\"group:g{group}\": [{}],\n", members.join(", ")));
    }
    text + "}}"
}
