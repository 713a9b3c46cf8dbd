//! The workload that sizes are stated for: `scale [NODES] [RULES]`, deterministic. Prints how long
//! parsing, resolving and compiling for one node take, and the search for unreachable rules.

use std::fmt::Write as _;
use std::time::Instant;

use bulkhead_compiler::compile::{Limits, added, compile};
use bulkhead_compiler::diagnostic::Findings;
use bulkhead_compiler::diff::{Side, diff};
use bulkhead_compiler::inventory::{self, Network, Node};
use bulkhead_compiler::reach;
use bulkhead_compiler::resolve::{Ruleset, resolve};
use bulkhead_compiler::source::Source;
use bulkhead_compiler::{Dialect, policy};

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

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what}: {:.4} s", start.elapsed().as_secs_f64());
    result
}

/// How long comparing takes with a policy of one rule more.
fn changes(
    policy_text: &str,
    inventory: &inventory::Inventory,
    old: &Ruleset,
) -> Result<(), Box<dyn std::error::Error>> {
    let more = "{\"acls\": [\n{\"action\": \"accept\", \"src\": [\"tag:t1\"], \"dst\": [\"tag:t2:65001\"]},";
    let text = policy_text.replacen("{\"acls\": [", more, 1);
    let mut findings = Findings::default();
    let policy = policy::parse(&Source::new("new policy", &text), Dialect::Bulkhead, &mut findings);
    let policy = policy.ok_or("unreadable")?;
    let new = resolve(&policy, inventory, Dialect::Bulkhead, Network::Overlay, &mut findings);
    let sides = [old, &new].map(|ruleset| Side { ruleset, inventory });
    let found = timed("diff of one rule more (not in the total)", || diff(sides[0], sides[1], 0))?;
    println!("added: {} lines, removed: {}", found.added.len(), found.removed.len());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let nodes: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let rules: u64 = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let mut random = Random(1);
    let inventory_text = inventory_text(&mut random, nodes);
    let policy_text = policy_text(&mut random, rules);
    println!("{nodes} nodes ({} bytes), {rules} rules ({} bytes)", inventory_text.len(), policy_text.len());

    let start = Instant::now();
    let mut findings = Findings::default();
    let inventory =
        timed("inventory", || inventory::parse(&Source::new("inventory", &inventory_text), &mut findings));
    let policy = timed("policy", || {
        policy::parse(&Source::new("policy", &policy_text), Dialect::Bulkhead, &mut findings)
    });
    let (inventory, policy) = inventory.zip(policy).ok_or("unreadable")?;
    let ruleset =
        timed("resolve", || resolve(&policy, &inventory, Dialect::Bulkhead, Network::Overlay, &mut findings));
    if findings.has_errors() {
        return Err(findings.to_string().into());
    }
    println!("selectors: {}", ruleset.selectors.len());
    let program = timed("compile", || compile(&ruleset, &inventory, "n0", Limits::default()))?;
    println!("total: {:.3} s", start.elapsed().as_secs_f64());
    let twin = inventory.nodes.get(1).ok_or("two nodes are needed")?;
    let addresses = vec!["100.127.255.254".parse()?, "fd7a:115c:a1e0::647f:fffe".parse()?];
    let new = Node { name: "one more".into(), addresses, ..twin.clone() };
    let stores =
        timed("one identity added (not in the total)", || added(&ruleset, &inventory, &program.tables, &new));
    println!("stores: {}", stores.map_or("compile anew".into(), |stores| stores.len().to_string()));
    let tables = &program.tables;
    println!(
        "rules {} rows {} cells {} locals {} remotes {} port classes {} trie blocks {} exact6 {} prefixes6 {}",
        program.rules.len(),
        program.rows,
        tables.cells.len(),
        tables.locals,
        tables.remotes,
        tables.port_classes,
        tables.trie.len(),
        tables.exact6.len(),
        tables.prefixes6.len(),
    );
    let mut findings = Findings::default();
    let reach = timed("reachability (not in the total)", || reach::check(&ruleset, 0, &mut findings));
    println!("{reach:?}");
    changes(&policy_text, &inventory, &ruleset)?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find(|line| line.starts_with("VmHWM")) {
        println!("{peak}");
    }
    Ok(())
}
