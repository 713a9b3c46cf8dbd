//! The machine that a run describes.

use std::fs;

use serde::{Deserialize, Serialize};

/// What of a machine matters to the figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// CPUs that are online.
    pub cpus: usize,
    /// Caches of the first CPU, as `L2 512K`.
    pub caches: Vec<String>,
    /// Memory, MiB.
    pub memory: u64,
    /// Kernel release.
    pub kernel: String,
    /// Distribution.
    pub system: String,
    /// Whether it runs under a hypervisor, which steals time.
    pub virtual_machine: bool,
    /// Security mitigations that change what a BPF program costs.
    pub mitigations: Vec<String>,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The value of a `name : value` or `name=value` line.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once([':', '='])?.1.trim().trim_matches('"').to_owned())
}

/// CPU time so far: what the hypervisor gave to others, and all but idleness. In ticks.
#[derive(Clone, Copy, Debug)]
pub struct Stolen {
    stolen: u64,
    busy: u64,
}

impl Stolen {
    /// Until now; nothing where the kernel does not tell.
    #[must_use]
    pub fn now() -> Self {
        let text = read("/proc/stat");
        let fields: Vec<u64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        // user, nice, system, idle, iowait, irq, softirq, steal (proc(5)).
        let field = |index: usize| fields.get(index).copied().unwrap_or(0);
        let busy = [0, 1, 2, 5, 6, 7].into_iter().map(field).sum();
        Self { stolen: field(7), busy }
    }

    /// The part since an earlier moment.
    #[must_use]
    pub fn part_since(self, before: Self) -> f64 {
        let busy = (self.busy - before.busy).max(1);
        (self.stolen - before.stolen) as f64 / busy as f64
    }
}

impl Machine {
    /// Asks this machine. What it does not tell is empty.
    #[must_use]
    pub fn here() -> Self {
        let processors = read("/proc/cpuinfo");
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let cache = |index: usize| {
            let part = |name: &str| read(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}"));
            let (level, kind, size) = (part("level"), part("type"), part("size"));
            (!size.is_empty() && kind != "Instruction").then(|| format!("L{level} {size}"))
        };
        let mitigation = |name: &str| {
            let state = read(&format!("/sys/devices/system/cpu/vulnerabilities/{name}"));
            (!state.is_empty()).then(|| format!("{name}: {state}"))
        };
        Self {
            processor: field(&processors, "model name").unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            caches: (0..8).filter_map(cache).collect(),
            memory: memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) >> 10,
            kernel: read("/proc/sys/kernel/osrelease"),
            system: field(&read("/etc/os-release"), "PRETTY_NAME").unwrap_or_default(),
            virtual_machine: field(&processors, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            mitigations: ["spectre_v1", "spectre_v2", "spec_store_bypass"]
                .into_iter()
                .filter_map(mitigation)
                .collect(),
        }
    }
}
