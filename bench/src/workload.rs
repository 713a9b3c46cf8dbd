//! The workload that the compiler's sizes are stated for: many tags, groups and networks, rules
//! of two selectors on each side, deterministic.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::world::Texts;

/// Distinct selectors, 1,000 at most: tags, groups, networks, and `*`.
const TAGS: u64 = 700;
const GROUPS: u64 = 200;
const NETWORKS: u64 = 96;
const USERS: u64 = 2000;

/// Policy and inventory of so many nodes and rules. The node `n0` is among them.
#[must_use]
pub fn texts(nodes: u64, rules: u64) -> Texts {
    let mut random = fastrand::Rng::with_seed(1);
    let inventory = inventory(&mut random, nodes);
    Texts { policy: policy(&mut random, rules), inventory }
}

fn inventory(random: &mut fastrand::Rng, nodes: u64) -> String {
    let mut text = String::from("{\"nodes\": [\n");
    for index in 0..nodes {
        let address = 0x6440_0000 + index * 4 + random.u64(..4);
        let v4 = Ipv4Addr::from(address as u32);
        let v6 = Ipv6Addr::from((0xfd7a_115c_a1e0 << 80) | u128::from(address));
        let owner = if random.u8(..5) == 0 {
            format!("\"user\": \"u{}@example.com\"", random.u64(..USERS))
        } else {
            let tags: Vec<_> =
                (0..random.u64(1..4)).map(|_| format!("\"tag:t{}\"", random.u64(..TAGS))).collect();
            format!("\"tags\": [{}]", tags.join(", "))
        };
        let comma = if index + 1 == nodes { "" } else { "," };
        let _ =
            writeln!(text, "{{\"name\": \"n{index}\", \"addresses\": [\"{v4}\", \"{v6}\"], {owner}}}{comma}");
    }
    text + "]}"
}

fn selector(random: &mut fastrand::Rng) -> String {
    match random.u64(..1000) {
        0 => "*".into(),
        1..700 => format!("tag:t{}", random.u64(..TAGS)),
        700..900 => format!("group:g{}", random.u64(..GROUPS)),
        _ => format!("10.{}.0.0/16", random.u64(..NETWORKS)),
    }
}

fn policy(random: &mut fastrand::Rng, rules: u64) -> String {
    let mut text = String::from("{\"acls\": [\n");
    for _ in 0..rules {
        let action = if random.u8(..10) == 0 { "deny" } else { "accept" };
        let port = 1 + random.u64(..200) * 50;
        let [one, two, three, four] = std::array::from_fn(|_| selector(random));
        let _ = writeln!(
            text,
            "{{\"action\": \"{action}\", \"src\": [\"{one}\", \"{two}\"], \"dst\": [\"{three}:{port}\", \"{four}:{port}\"]}},"
        );
    }
    text.push_str("], \"tagOwners\": {\n");
    (0..TAGS).for_each(|tag| _ = writeln!(text, "\"tag:t{tag}\": [],"));
    text.push_str("}, \"groups\": {\n");
    for group in 0..GROUPS {
        let members: Vec<_> = (0..10).map(|_| format!("\"u{}@example.com\"", random.u64(..USERS))).collect();
        let _ = writeln!(text, "\"group:g{group}\": [{}],", members.join(", "));
    }
    text + "}}"
}
