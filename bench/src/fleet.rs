//! On paper, with this run's constants: what a fleet of 100,000 hosts costs. Every host has the
//! whole policy and compiles its own tables.

use std::fmt::Write as _;

use crate::figure::Report;
use crate::report::number;

const HOSTS: f64 = 100_000.0;
/// Changes of the policy in a day.
const CHANGES: f64 = 20.0;
const SECONDS_A_DAY: f64 = 86_400.0;
/// Packets a second of a host with an ordinary load.
const PACKETS: f64 = 50_000.0;

/// The section; none if this run has not measured all that it needs.
#[must_use]
pub fn page(report: &Report) -> Option<String> {
    let value = |id: &str| report.figure(id).map(|figure| figure.summary.median);
    let inventory = value("scale/inventory/dense/100000")?;
    let compile = value("scale/compile/dense/100000")?;
    let load = value("scale/load/dense/100000")?;
    let memory = value("scale/memory/dense/100000")?;
    let forward = value("scale/forward/dense/100000")?;
    let flows = value("scale/memory/flows/131072")?;
    let change = (compile + load) / 1e3;
    let mut text = format!(
        "## A fleet of 100,000 hosts, on paper\n\n\
         With the constants above: every host is an identity, has the whole policy, and compiles its own tables; \
         {CHANGES} changes a day; {} packets a second on a host.\n\n| | on a host | in the fleet |\n|---|---|---|\n",
        number(PACKETS)
    );
    let rows = [
        (
            "inventory to send, a change, as text",
            format!("{} MiB", number(inventory)),
            format!("{} GiB", number(inventory * HOSTS / 1024.0)),
        ),
        (
            "the same as a mean rate over the day",
            format!("{} kB/s", number(inventory * 1048.576 * CHANGES / SECONDS_A_DAY)),
            format!("{} MB/s", number(inventory * 1.048_576 * CHANGES * HOSTS / SECONDS_A_DAY)),
        ),
        (
            "CPU for a change: compile and load",
            format!("{} s", number(change)),
            format!("{} core-hours", number(change * HOSTS / 3600.0)),
        ),
        (
            "the same as a part of one core, over the day",
            format!("{} %", number(100.0 * change * CHANGES / SECONDS_A_DAY)),
            format!("{} cores", number(change * CHANGES * HOSTS / SECONDS_A_DAY)),
        ),
        (
            "memory of the tables (two generations during a change)",
            format!("{} MiB", number(2.0 * memory)),
            format!("{} TiB", number(2.0 * memory * HOSTS / f64::from(1 << 20))),
        ),
        (
            "memory of 131,072 flows",
            format!("{} MiB", number(flows)),
            format!("{} TiB", number(flows * HOSTS / f64::from(1 << 20))),
        ),
        (
            "CPU of the verdicts",
            format!("{} % of a core", number(forward * PACKETS / 1e7)),
            format!("{} cores", number(forward * PACKETS * HOSTS / 1e9)),
        ),
    ];
    for (what, host, fleet) in rows {
        let _ = writeln!(text, "| {what} | {host} | {fleet} |");
    }
    text.push('\n');
    Some(text)
}
