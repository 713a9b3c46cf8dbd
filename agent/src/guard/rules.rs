//! The guard's table, as nft reads it.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use super::kind::Kind;
use super::spec::{Guard, table_name};

/// Drops of one kind that are logged in a second, and at once after a pause. The others are counted.
const LOGGED: (u32, u32) = (50, 100);

/// Bytes of a logged packet: the headers, IPv6 extension headers included.
const SNAPLEN: u32 = 128;

/// The table of an instance, in the network namespace that the agent runs in.
fn table(instance: &str) -> String {
    format!("inet {}", table_name(instance))
}

/// The names of an instance's log messages begin with this.
pub fn log_prefix(instance: &str) -> String {
    format!("{} ", table_name(instance))
}

fn set<T: Display>(script: &mut String, name: &str, kind: &str, elements: impl Iterator<Item = T>) {
    let elements = list(elements);
    let _ = writeln!(script, "  set {name} {{\n    type {kind}");
    if !elements.is_empty() {
        let _ = writeln!(script, "    elements = {{ {elements} }}");
    }
    let _ = writeln!(script, "  }}");
}

fn list<T: Display>(elements: impl Iterator<Item = T>) -> String {
    elements.map(|element| element.to_string()).collect::<Vec<_>>().join(", ")
}

/// Makes way for the table that follows, in the same transaction.
pub enum Way<'a> {
    /// Removes whatever is there, counters included.
    Anew,
    /// Removes these chains and sets; the counters go on.
    Over {
        /// All chains of the table.
        chains: &'a [String],
        /// All its sets.
        sets: &'a [String],
    },
}

/// Clears the way for a table.
pub fn clear(instance: &str, way: &Way) -> String {
    let table = table(instance);
    match way {
        Way::Anew => format!("table {table} {{}}\ndelete table {table}\n"),
        Way::Over { chains, sets } => {
            let mut script = format!("flush table {table}\n");
            chains.iter().for_each(|chain| _ = writeln!(script, "delete chain {table} {chain}"));
            sets.iter().for_each(|set| _ = writeln!(script, "delete set {table} {set}"));
            script
        }
    }
}

/// Elements of the set of attached devices.
fn pairs(devices: &BTreeSet<(u32, u32)>) -> impl Iterator<Item = String> {
    devices.iter().map(|(index, group)| format!("{index} . {group}"))
}

/// Puts other devices into the set of attached ones.
pub fn attached(instance: &str, devices: &BTreeSet<(u32, u32)>) -> String {
    let table = table(instance);
    let mut script = format!("flush set {table} attached\n");
    if !devices.is_empty() {
        let _ = writeln!(script, "add element {table} attached {{ {} }}", list(pairs(devices)));
    }
    script
}

impl Guard {
    /// The whole table.
    pub fn script(&self, instance: &str) -> String {
        let v4 = |set: &BTreeSet<IpAddr>| set.iter().filter(|ip| ip.is_ipv4()).copied().collect::<Vec<_>>();
        let v6 = |set: &BTreeSet<IpAddr>| set.iter().filter(|ip| ip.is_ipv6()).copied().collect::<Vec<_>>();
        let mut script = format!("table {} {{\n", table(instance));
        for kind in Kind::ALL {
            let _ = writeln!(script, "  counter {} {{\n  }}", kind.object());
        }
        set(&mut script, "managed", "ifname", self.managed.iter().map(|name| format!("\"{name}\"")));
        set(&mut script, "attached", "iface_index . devgroup", pairs(&self.attached));
        set(&mut script, "own4", "ipv4_addr", v4(&self.own).iter());
        set(&mut script, "own6", "ipv6_addr", v6(&self.own).iter());
        set(&mut script, "others4", "ipv4_addr", v4(&self.others).iter());
        set(&mut script, "others6", "ipv6_addr", v6(&self.others).iter());
        Kind::ALL.into_iter().for_each(|kind| self.drop_chain(&mut script, instance, kind));
        // Before connection tracking, so that what is dropped leaves no trace there. A VRF hands over what
        // came, or is about to leave, by an interface below it, where it is judged under that one's name. An
        // IPv6 source that stands for an IPv4 address is that address to a socket of both families.
        // What is managed beneath the overlay carries no overlay address either, whatever its programs say.
        let beneath = |side: &str| -> String {
            let rule = |name: &String| {
                format!("    {side}ifname \"{name}\" {side}if . {side}ifgroup @attached goto {side}overlay\n")
            };
            self.underlay.iter().map(rule).collect()
        };
        let _ = write!(
            script,
            "  chain ioverlay {{
    ip daddr @own4 goto own_destination
    ip6 daddr @own6 goto own_destination
    ip saddr @own4 goto own_source
    ip6 saddr @own6 goto own_source
    ip saddr @others4 goto overlay_source
    ip6 saddr @others6 goto overlay_source
    ip6 saddr ::ffff:0:0/96 goto overlay_source
  }}
  chain ooverlay {{
    ip daddr @own4 goto overlay_destination
    ip6 daddr @own6 goto overlay_destination
    ip daddr @others4 goto overlay_destination
    ip6 daddr @others6 goto overlay_destination
  }}
  chain input {{
    type filter hook prerouting priority -310; policy accept;
{}    iifname @managed iif . iifgroup @attached accept
    iifname @managed goto closed_in
    iif \"lo\" accept
    meta iifkind \"vrf\" accept
    goto ioverlay
  }}
  chain output {{
    type filter hook postrouting priority -310; policy accept;
{}    oifname @managed oif . oifgroup @attached accept
    oifname @managed goto closed_out
    oif \"lo\" accept
    meta oifkind \"vrf\" accept
    goto ooverlay
  }}
}}
",
            beneath("i"),
            beneath("o"),
        );
        script
    }

    /// What becomes of a packet of a kind. It is counted after it was logged: whoever reads the counter
    /// and then the log finds there all that was logged of what was counted.
    fn drop_chain(&self, script: &mut String, instance: &str, kind: Kind) {
        let object = kind.object();
        let _ = writeln!(script, "  chain {object} {{");
        if let Some(group) = self.log {
            let (rate, burst) = LOGGED;
            let prefix = log_prefix(instance) + object;
            let _ = writeln!(
                script,
                "    limit rate {rate}/second burst {burst} packets log prefix \"{prefix}\" group {group} snaplen {SNAPLEN}"
            );
        }
        let _ = writeln!(script, "    counter name \"{object}\" drop\n  }}");
    }
}
