//! The host: privileges, the kernel, nftables, the clock and the disk.

use std::fs;
use std::path::Path;

use bulkhead_dataplane::check_support;
use bulkhead_host::clock::ClockState;

use super::{Finding, Level, Patient};
use crate::guard;
use crate::paths::BPFFS;

const MIB: u64 = 1 << 20;

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    vec![kernel(), clock(), disk(&patient.paths.state), nftables(patient.config.guard)]
}

fn nftables(has_guard: bool) -> Finding {
    if !has_guard {
        return Finding::new(
            "nftables",
            Level::Warning,
            "the guard is turned off: what no program sees passes",
            "remove `guard = false` from agent.toml",
        );
    }
    match guard::check() {
        Ok(()) => Finding::ok("nftables", "nft works"),
        Err(error) => Finding::said("nftables", Level::Problem, format!("{error:#}")),
    }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // Looking mounts nothing.
    if !mounts.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS)) {
        return Finding::new(
            "kernel",
            Level::Note,
            "/sys/fs/bpf is not mounted",
            "the agent mounts it when it starts",
        );
    }
    match check_support(Path::new(BPFFS), false) {
        Ok(()) => Finding::ok(
            "kernel",
            format!("{} has all that is needed, and this process may use it", release.trim()),
        ),
        Err(error) => Finding::said("kernel", Level::Problem, format!("{:#}", anyhow::Error::from(error))),
    }
}

/// Expiry, quarantines and evidence go by the wall clock.
fn clock() -> Finding {
    let ClockState { source, discipline } = ClockState::now();
    let Some(discipline) = discipline else {
        return Finding::said(
            "clock",
            Level::Note,
            format!("source {source}; whether it is synchronized is not known"),
        );
    };
    if !discipline.synchronized {
        return Finding::new(
            "clock",
            Level::Warning,
            format!("source {source}, not synchronized: expiry and the times of events may be wrong"),
            "run chrony, systemd-timesyncd or another NTP client",
        );
    }
    let error = discipline.error / 1000;
    Finding::ok("clock", format!("source {source}, synchronized, off by at most {error} µs"))
}

fn disk(state: &Path) -> Finding {
    let there = state.ancestors().find(|directory| directory.exists()).unwrap_or(Path::new("/"));
    let Ok(free) = rustix::fs::statvfs(there).map(|stat| stat.f_bavail * stat.f_frsize) else {
        return Finding::said("disk", Level::Warning, format!("{}: cannot be asked", there.display()));
    };
    let found = format!("{}: {} MiB free", state.display(), free / MIB);
    let next = "make room there: the event log and what a restart needs are kept in it";
    match free / MIB {
        0..64 => Finding::new("disk", Level::Problem, found, next),
        64..512 => Finding::new("disk", Level::Warning, found, next),
        _ => Finding::ok("disk", found),
    }
}
