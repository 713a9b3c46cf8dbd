//! The nftables guard: what BPF programs on an interface cannot see.
//!
//! An interface that goes and comes back under its name has no program until the agent
//! attaches one, and a packet to an overlay address may arrive on an interface that is not
//! managed. The guard drops both. It needs no agent to hold: nftables keeps it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// What the guard watches over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Names of the managed interfaces.
    pub managed: BTreeSet<String>,
    /// Indices of those whose packets may pass: they have programs attached, or get them now.
    pub attached: BTreeSet<u32>,
    /// The node's own overlay addresses: on other interfaces nothing may be sent to them.
    pub own: BTreeSet<IpAddr>,
    /// Other nodes' overlay addresses: on other interfaces nothing may come from them.
    pub others: BTreeSet<IpAddr>,
}

/// The table of an instance, in the network namespace that the agent runs in.
fn table(instance: &str) -> String {
    format!("inet bulkhead-{instance}")
}

fn set<T>(script: &mut String, name: &str, kind: &str, elements: impl Iterator<Item = T>)
where
    T: std::fmt::Display,
{
    let elements: Vec<String> = elements.map(|element| element.to_string()).collect();
    let _ = writeln!(script, "  set {name} {{");
    let _ = writeln!(script, "    type {kind}");
    if !elements.is_empty() {
        let _ = writeln!(script, "    elements = {{ {} }}", elements.join(", "));
    }
    let _ = writeln!(script, "  }}");
}

impl Guard {
    /// The whole table, replaced in one transaction: at no moment is there less than before.
    fn script(&self, instance: &str) -> String {
        let table = table(instance);
        let v4 = |set: &BTreeSet<IpAddr>| set.iter().filter(|ip| ip.is_ipv4()).copied().collect::<Vec<_>>();
        let v6 = |set: &BTreeSet<IpAddr>| set.iter().filter(|ip| ip.is_ipv6()).copied().collect::<Vec<_>>();
        let mut script = format!("table {table} {{}}\ndelete table {table}\ntable {table} {{\n");
        set(&mut script, "managed", "ifname", self.managed.iter().map(|name| format!("\"{name}\"")));
        set(&mut script, "attached", "iface_index", self.attached.iter());
        set(&mut script, "own4", "ipv4_addr", v4(&self.own).iter());
        set(&mut script, "own6", "ipv6_addr", v6(&self.own).iter());
        set(&mut script, "others4", "ipv4_addr", v4(&self.others).iter());
        set(&mut script, "others6", "ipv6_addr", v6(&self.others).iter());
        // Before connection tracking, so that what is dropped leaves no trace there.
        script.push_str(
            "  chain input {
    type filter hook prerouting priority -310; policy accept;
    iifname @managed iif != @attached counter drop
    iifname @managed accept
    iif \"lo\" accept
    ip daddr @own4 counter drop
    ip6 daddr @own6 counter drop
    ip saddr @others4 counter drop
    ip6 saddr @others6 counter drop
  }
  chain output {
    type filter hook postrouting priority -310; policy accept;
    oifname @managed oif != @attached counter drop
  }
}
",
        );
        script
    }

    /// Puts the guard in place, or replaces the one that is.
    ///
    /// # Errors
    /// If nftables refuses; then the guard is as it was.
    pub fn install(&self, instance: &str) -> anyhow::Result<()> {
        nft(&self.script(instance)).context("installing the nftables guard").map(drop)
    }
}

/// Whether nftables can be had here at all.
///
/// # Errors
/// If not; what to do about it.
pub fn check() -> anyhow::Result<()> {
    let tables = nft("list tables\n").context(
        "the nftables guard is not possible here; install the nftables package, or run without it by --guard off",
    );
    tables.map(drop)
}

/// Whether an instance has a guard.
#[must_use]
pub fn is_there(instance: &str) -> bool {
    // Names alone: listing the table itself would list every address.
    let line = format!("table {}", table(instance));
    nft("list tables inet\n").is_ok_and(|tables| tables.lines().any(|table| table == line))
}

/// Removes an instance's guard, if there is one.
///
/// # Errors
/// If nftables refuses.
pub fn remove(instance: &str) -> anyhow::Result<()> {
    let table = table(instance);
    nft(&format!("table {table} {{}}\ndelete table {table}\n"))
        .context("removing the nftables guard")
        .map(drop)
}

/// Runs a script; what it printed.
fn nft(script: &str) -> anyhow::Result<String> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("nft cannot be started")?;
    child.stdin.take().context("nft has no input")?.write_all(script.as_bytes()).context("writing to nft")?;
    let output = child.wait_with_output().context("waiting for nft")?;
    anyhow::ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::Guard;

    #[test]
    fn the_table_is_replaced_in_one_transaction() {
        let guard = Guard {
            managed: ["wg0".to_owned()].into(),
            attached: [7].into(),
            own: ["100.64.0.1".parse().unwrap(), "fd7a::1".parse().unwrap()].into(),
            others: ["100.64.0.2".parse().unwrap()].into(),
        };
        let script = guard.script("x");
        assert!(script.starts_with(
            "table inet bulkhead-x {}\ndelete table inet bulkhead-x\ntable inet bulkhead-x {\n"
        ));
        for part in ["{ \"wg0\" }", "{ 7 }", "{ 100.64.0.1 }", "{ fd7a::1 }", "{ 100.64.0.2 }"] {
            assert!(script.contains(part), "{part} in {script}");
        }
        // An empty set has no elements clause, which nft would refuse.
        assert!(!Guard::default().script("x").contains("elements"));
    }
}
