//! From files to tables: time and memory against nodes and rules.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Effort;
use crate::agent::Files;
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
        let tables = texts.compile_for(NODE)?;
        let peak = peak_of(&effort.bulkhead, texts)?;
        let tables = mebibytes(table_bytes(&tables.tables));
        let title = format!("the tables of one node: {nodes} nodes and {rules} rules");
        report.add(Figure::new(format!("compile/tables/{nodes}x{rules}"), title, Unit::Mebibytes, vec![tables]), &[]);
        let title = format!("memory of `bulkhead compile` at its peak: {nodes} nodes and {rules} rules");
        report.add(Figure::new(format!("compile/memory/{nodes}x{rules}"), title, Unit::Mebibytes, vec![peak]), &[]);
    }
    report.miss("compile/add", "one identity added to running tables: the compiler has no such operation yet");
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// MiB that `bulkhead compile` takes at its peak.
fn peak_of(bulkhead: &Path, texts: &Texts) -> Result<f64> {
    let files = Files::new("compile", texts)?;
    let mut command = Command::new(bulkhead);
    command.args(["compile", "--node", NODE]).arg("--policy").arg(files.policy());
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
