//! Inventory and policy of any size: many tags, groups and networks, rules of two selectors on each
//! side, deterministic. `bench` measures the compiler on the same.

use std::fmt::Write as _;

/// Distinct selectors, 1,000 at most: tags, groups, networks, and `*` on each side of accepts and denies.
const TAGS: u64 = 700;
const GROUPS: u64 = 200;
const NETWORKS: u64 = 96;
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
        let owner = if random.below(5) == 0 {
            format!("\"user\": \"u{}@example.com\"", random.below(USERS))
        } else {
            let tags: Vec<String> =
                (0..1 + random.below(3)).map(|_| format!("\"tag:t{}\"", random.below(TAGS))).collect();
            format!("\"tags\": [{}]", tags.join(", "))
        };
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

fn policy_text(random: &mut Random, rules: u64) -> String {
    let mut text = String::from("{\"acls\": [\n");
    for _ in 0..rules {
        let action = if random.below(10) == 0 { "deny" } else { "accept" };
        let port = 1 + random.below(200) * 50;
        let (src, dst) = (selector(random), selector(random));
        let (more_src, more_dst) = (selector(random), selector(random));
        let _ = writeln!(
            text,
            "{{\"action\": \"{action}\", \"src\": [\"{src}\", \"{more_src}\"], \"dst\": [\"{dst}:{port}\", \"{more_dst}:{port}\"]}},"
        );
    }
    text.push_str("], \"tagOwners\": {\n");
    (0..TAGS).for_each(|tag| text.push_str(&format!("\"tag:t{tag}\": [],\n")));
    text.push_str("}, \"groups\": {\n");
    for group in 0..GROUPS {
        let members: Vec<String> =
            (0..10).map(|_| format!("\"u{}@example.com\"", random.below(USERS))).collect();
        text.push_str(&format!("\"group:g{group}\": [{}],\n", members.join(", ")));
    }
    text + "}}"
}
