//! From files to tables: time and memory against nodes and rules.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulkhead_policy::compile::{added, compile, store};
use bulkhead_policy::inventory::Node;

use super::Effort;
use crate::agent::Files;
use crate::figure::{Figure, Report, Unit};
use crate::world::{LIMITS, Texts, resolved, table_bytes};
use bulkhead_testkit::workload;

/// Nodes × rules; the last is the size that the requirement is stated for.
const SIZES: [(u64, u64); 5] =
    [(1000, 100), (10_000, 1000), (100_000, 1000), (10_000, 10_000), (100_000, 10_000)];
/// The node whose tables are made.
const NODE: &str = "n0";

/// Measures.
///
/// # Errors
/// If a policy does not compile.
pub fn run(effort: &Effort, report: &mut Report) -> Result<()> {
    let worlds: Vec<Texts> = SIZES
        .iter()
        .map(|(nodes, rules)| {
            let (inventory, policy) = workload::texts(*nodes, *rules);
            Texts { policy, inventory }
        })
        .collect();
    let rounds = effort.pick(3, 9);
    let mut times = vec![Vec::new(); SIZES.len()];
    for _ in 0..rounds {
        for (texts, times) in worlds.iter().zip(&mut times) {
            let start = Instant::now();
            texts.compile_for(NODE)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    for ((texts, times), (nodes, rules)) in worlds.iter().zip(times).zip(SIZES) {
        let title = format!("reading, resolving and compiling {nodes} nodes and {rules} rules for one node");
        let id = format!("compile/time/{nodes}x{rules}");
        report.add(Figure::new(&id, &title, Unit::Milliseconds, times.clone()), &["compile/time/1000x100"]);
        let tables = texts.compile_for(NODE)?;
        let peak = peak_of(&effort.bulkhead, texts)?;
        let tables = mebibytes(table_bytes(&tables.tables));
        let title = format!("the tables of one node: {nodes} nodes and {rules} rules");
        report.add(
            Figure::new(format!("compile/tables/{nodes}x{rules}"), title, Unit::Mebibytes, vec![tables]),
            &[],
        );
        let title = format!("memory of `bulkhead compile` at its peak: {nodes} nodes and {rules} rules");
        report.add(
            Figure::new(format!("compile/memory/{nodes}x{rules}"), title, Unit::Mebibytes, vec![peak]),
            &[],
        );
    }
    one_more(&worlds[worlds.len() - 1], rounds, report)
}

/// One identity more among 100,000, into tables that are there, beside resolving and compiling
/// all anew. Neither reads a file.
fn one_more(texts: &Texts, rounds: usize, report: &mut Report) -> Result<()> {
    let (inventory, policy) = texts.read()?;
    // One that is on no exchange's network and in no legal entity, as most are.
    let twin = inventory.nodes.last().context("a node is needed")?;
    let new = Node { name: "one-more".into(), addresses: vec!["100.127.255.254".parse()?], ..twin.clone() };
    let (mut full, mut add) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        let ruleset = resolved(&inventory, &policy)?;
        let mut tables = compile(&ruleset, &inventory, NODE, LIMITS)?.tables;
        full.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        let stores = added(&ruleset, &inventory, &tables, &new);
        let stores = stores.context("the new node needs tables compiled anew")?;
        store(&mut tables, &stores).map_err(|why| anyhow::anyhow!("{why:?}"))?;
        add.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let title = "resolving and compiling 100,000 nodes and 10,000 rules";
    report.add(Figure::new("compile/full", title, Unit::Milliseconds, full), &[]);
    let title = "one identity added to these tables";
    report.add(Figure::new("compile/add", title, Unit::Milliseconds, add), &["compile/full"]);
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// MiB that `bulkhead compile` takes at its peak.
fn peak_of(bulkhead: &Path, texts: &Texts) -> Result<f64> {
    let files = Files::new("compile", texts)?;
    let mut command = Command::new(bulkhead);
    command.args(["compile", "--node", NODE]).arg(files.policy());
    command.arg("--inventory").arg(files.inventory()).stdout(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("start {}", bulkhead.display()))?;
    // Its own peak, which only rises; what wait4 tells includes this process's, from before exec.
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    loop {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok()) {
            peak = kib / 1024.0;
        }
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "`bulkhead compile` failed ({status})");
            return Ok(peak);
        }
        thread::sleep(Duration::from_millis(2));
    }
}
