//! From files to tables: time and memory against nodes and rules.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::Effort;
use crate::figure::{Figure, Report, Unit};
use crate::workload;
use crate::world::{Texts, table_bytes};

/// Nodes × rules; the last is the size that the requirement is stated for.
const SIZES: [(u64, u64); 5] = [(1000, 100), (10_000, 1000), (100_000, 1000), (10_000, 10_000), (100_000, 10_000)];
/// The node whose tables are made.
const NODE: &str = "n0";

/// Measures.
///
/// # Errors
/// If a policy does not compile.
pub fn run(effort: &Effort, report: &mut Report) -> Result<()> {
    let worlds: Vec<Texts> = SIZES.iter().map(|(nodes, rules)| workload::texts(*nodes, *rules)).collect();
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
        if (nodes, rules) == SIZES[SIZES.len() - 1] {
            report.add(Figure::new("compile/full", &title, Unit::Milliseconds, times), &[]);
        }
        let (peak, tables) = peak_of(|| texts.compile_for(NODE))?;
        let tables = mebibytes(table_bytes(&tables.tables));
        let title = format!("the tables of one node: {nodes} nodes and {rules} rules");
        report.add(Figure::new(format!("compile/tables/{nodes}x{rules}"), title, Unit::Mebibytes, vec![tables]), &[]);
        let title = format!("memory that compiling takes on top: {nodes} nodes and {rules} rules");
        report.add(Figure::new(format!("compile/memory/{nodes}x{rules}"), title, Unit::Mebibytes, vec![peak]), &[]);
    }
    report.miss("compile/add", "one identity added to running tables: the compiler has no such operation yet");
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// MiB by which this process grew at most while it did the work.
fn peak_of<T>(work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    // Resets the peak (proc(5), clear_refs).
    fs::write("/proc/self/clear_refs", "5").context("reset the peak of this process's memory")?;
    let before = status("VmRSS")?;
    let done = work()?;
    Ok(((status("VmHWM")? - before).max(0.0), done))
}

/// A line of /proc/self/status, MiB.
fn status(name: &str) -> Result<f64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("/proc/self/status has no {name}"))? / 1024.0)
}
