//! The workload that sizes are stated for: `scale [NODES] [RULES]`, deterministic. Prints how long
//! parsing, resolving (with the search for rules that cross the boundary) and compiling for one node
//! take, and apart from it the proofs, exchange interfaces and the search for unreachable rules.

use std::time::Instant;

use bulkhead_policy::compile::{Limits, added, compile};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::diff::{Side, diff};
use bulkhead_policy::inventory::{self, Network, Node};
use bulkhead_policy::resolve::{Ruleset, resolve};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, policy, proof, unreachable};
use bulkhead_testkit::workload;

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
    let (inventory_text, policy_text) = workload::texts(nodes, rules);
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
        "rules {} rows {} cells {} locals {} remotes {} port classes {} trie blocks {} single addresses {} prefixes6 {}",
        program.rules.len(),
        program.rows,
        tables.cells.len(),
        tables.locals,
        tables.remotes,
        tables.port_classes,
        tables.trie.len(),
        tables.hosts.len(),
        tables.prefixes6.len(),
    );
    let mut findings = Findings::default();
    let proofs = timed("proofs (not in the total)", || proof::prove(&ruleset, &inventory, 0, &mut findings));
    for proof in proofs.venues.iter().chain(&proofs.boundaries) {
        println!(
            "{}: holds {}, {} lanes, {} combinations",
            proof.name, proof.holds, proof.lanes, proof.admitted
        );
    }
    let underlay = timed("resolve for exchange interfaces (not in the total)", || {
        resolve(&policy, &inventory, Dialect::Bulkhead, Network::Underlay, &mut findings)
    });
    timed("compile for them (not in the total)", || compile(&underlay, &inventory, "n0", Limits::default()))?;
    timed("proofs for them (not in the total)", || proof::prove(&underlay, &inventory, 0, &mut findings));
    let reach = timed("reachability (not in the total)", || unreachable::check(&ruleset, 0, &mut findings));
    println!("{reach:?}");
    changes(&policy_text, &inventory, &ruleset)?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find(|line| line.starts_with("VmHWM")) {
        println!("{peak}");
    }
    Ok(())
}
