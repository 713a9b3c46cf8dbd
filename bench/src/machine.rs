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
