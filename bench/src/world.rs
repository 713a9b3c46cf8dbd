//! A node and many others: policy, inventory, and the node's tables.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory, Network};
use bulkhead_policy::policy::Policy;
use bulkhead_policy::resolve::{Ruleset, resolve};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, policy};
use bulkhead_testkit::measure::Addresses;

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// As in figures' ids.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// This node's own address.
    #[must_use]
    pub const fn node(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 1, 0, 1)),
        }
    }

    /// The address of an index.
    #[must_use]
    pub fn address(self, addresses: &Addresses, index: u32) -> IpAddr {
        match self {
            Self::V4 => addresses.v4(index).into(),
            Self::V6 => addresses.v6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0), index).into(),
        }
    }
}

/// The port that everybody may ask this node for.
pub const SERVICE: u16 = 8080;
/// The port that this node may ask everybody for, where it may.
pub const ASKED: u16 = 443;
/// A port that no rule names.
pub const CLOSED: u16 = 9;
/// Tags of the others.
pub const TAGS: u32 = 16;
/// The node's name.
pub const NODE: &str = "node";

/// A network without nodes.
pub const NETWORK: Addresses = Addresses::dense(Ipv4Addr::new(64, 0, 0, 0), 1 << 29);

/// More memory for tables than the agent's default, so that growth shows.
pub const LIMITS: Limits = Limits { bytes: 8 << 30 };

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rules {
    /// Everybody may ask this node.
    Inward,
    /// And this node may ask everybody.
    BothWays,
    /// [`Rules::BothWays`], and what this node asks is to begin as TLS, which is counted.
    Observed,
    /// [`Rules::Inward`], and what does not begin as TLS is dropped.
    Required,
    /// Everybody may ask this node, by so many rules, each with a port of its own. The service is
    /// the last one's.
    Many(u32),
    /// This node may ask every address of [`NETWORK`].
    Network,
}

/// Policy and inventory as files have them.
#[derive(Clone, Debug)]
pub struct Texts {
    /// HuJSON.
    pub policy: String,
    /// JSON.
    pub inventory: String,
}

impl Texts {
    /// A node, and the others at these addresses.
    #[must_use]
    pub fn new(family: Family, addresses: &Addresses, rules: Rules) -> Self {
        let mut inventory = format!(
            "{{\"nodes\": [{{\"name\": \"{NODE}\", \"addresses\": [\"{}\"], \"tags\": [\"tag:server\"]}}",
            family.node()
        );
        for index in 0..addresses.count {
            let (address, tag) = (family.address(addresses, index), index % TAGS);
            let _ = write!(
                inventory,
                ",\n{{\"name\": \"n{index}\", \"addresses\": [\"{address}\"], \"tags\": [\"tag:t{tag}\"]}}"
            );
        }
        inventory.push_str("], \"users\": []}");
        Self { policy: policy_text(rules), inventory }
    }

    /// Compiles them for the node.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn compile(&self) -> Result<Program> {
        self.compile_for(NODE)
    }

    /// Compiles them for a node.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn compile_for(&self, node: &str) -> Result<Program> {
        let (inventory, policy) = self.read()?;
        compile(&resolved(&inventory, &policy)?, &inventory, node, LIMITS).context("compile")
    }

    /// Reads them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(&self) -> Result<(Inventory, Policy)> {
        let mut findings = Findings::default();
        let inventory = inventory::parse(&Source::new("inventory", &self.inventory), &mut findings);
        let policy = policy::parse(&Source::new("policy", &self.policy), Dialect::Bulkhead, &mut findings);
        inventory.zip(policy).with_context(|| findings.to_string())
    }
}

/// The rules in order.
///
/// # Errors
/// What is wrong with them.
pub fn resolved(inventory: &Inventory, policy: &Policy) -> Result<Ruleset> {
    let mut findings = Findings::default();
    let ruleset = resolve(policy, inventory, Dialect::Bulkhead, Network::Overlay, &mut findings);
    ensure!(!findings.has_errors(), "{findings}");
    Ok(ruleset)
}

fn policy_text(rules: Rules) -> String {
    let (mut acls, mut owners) = (String::new(), String::from("\"tag:server\": []"));
    for tag in 0..TAGS {
        let _ = write!(owners, ", \"tag:t{tag}\": []");
    }
    let tls = match rules {
        Rules::Observed => ", \"proto\": \"tcp\", \"tls\": \"observe\"",
        Rules::Required => ", \"proto\": \"tcp\", \"tls\": \"required\"",
        _ => "",
    };
    let mut accept = |source: &str, target: &str, port: u32| {
        let _ = writeln!(
            acls,
            "{{\"action\": \"accept\", \"src\": [\"{source}\"], \"dst\": [\"{target}:{port}\"]{tls}}},"
        );
    };
    match rules {
        Rules::Inward | Rules::BothWays | Rules::Observed | Rules::Required => {
            for tag in 0..TAGS {
                accept(&format!("tag:t{tag}"), "tag:server", SERVICE.into());
                accept(&format!("tag:t{tag}"), "tag:server", 9000 + tag);
                if matches!(rules, Rules::BothWays | Rules::Observed) {
                    accept("tag:server", &format!("tag:t{tag}"), ASKED.into());
                }
            }
        }
        Rules::Network => {
            let bits = 32 - NETWORK.count.trailing_zeros();
            accept("tag:server", &format!("{}/{bits}", NETWORK.v4(0)), ASKED.into());
        }
        Rules::Many(count) => {
            // The last ones let every tag in; the ones before name a port each.
            for rule in 0..count.saturating_sub(TAGS) {
                accept(&format!("tag:t{}", rule % TAGS), "tag:server", 10_000 + rule);
            }
            let last = count.min(TAGS);
            for rule in 0..last {
                let tags: Vec<_> =
                    (rule..TAGS).step_by(last as usize).map(|tag| format!("tag:t{tag}")).collect();
                accept(&tags.join("\", \""), "tag:server", SERVICE.into());
            }
        }
    }
    format!("{{\"acls\": [{acls}], \"tagOwners\": {{{owners}}}}}")
}

/// Bytes of memory that a node's tables take in the kernel: what is mapped in arrays, and for
/// hashes what the kernel says of its maps is asked elsewhere.
#[must_use]
pub fn table_bytes(tables: &bulkhead_engine::memory::Tables) -> u64 {
    let bytes = size_of_val(tables.trie.as_slice())
        + size_of_val(tables.ports.as_slice())
        + size_of_val(tables.pairs.as_slice())
        + size_of_val(tables.cells.as_slice())
        + size_of_val(tables.hosts.buckets())
        + size_of_val(tables.prefixes6.as_slice());
    bytes as u64
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bulkhead_testkit::measure::Addresses;

    use super::{Family, Rules, Texts};

    #[test]
    fn every_world_compiles_to_as_many_rules_as_it_says() {
        let addresses = Addresses::dense(Ipv4Addr::new(100, 64, 0, 0), 100);
        for (rules, count) in [
            (Rules::Inward, 32),
            (Rules::BothWays, 48),
            (Rules::Many(10), 10),
            (Rules::Many(1000), 1000),
            (Rules::Observed, 48),
            (Rules::Required, 32),
            (Rules::Network, 1),
        ] {
            for family in [Family::V4, Family::V6] {
                let program = Texts::new(family, &addresses, rules).compile().unwrap();
                assert_eq!(program.rules.len(), count, "{rules:?}");
            }
        }
    }
}
