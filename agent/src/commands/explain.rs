//! `bulkhead explain`: the verdict on a conversation, the rule and its place, on both hosts.

use std::net::IpAddr;

use bulkhead_compiler::explain::{Explanation, explain};
use bulkhead_compiler::inventory::{Inventory, Network};
use bulkhead_compiler::policy::Action;
use bulkhead_compiler::reference::Probe;
use bulkhead_compiler::service;

use super::network::On;
use crate::cli::Global;
use crate::exit::{Answer, Usage};
use crate::input;

/// Tells what happens to a conversation, on both hosts, and because of which line of the policy.
/// Exits with 1 if it is denied.
#[derive(Debug, clap::Args)]
pub struct Explain {
    #[command(flatten)]
    on: On,
    /// Who starts: a node's name or an address.
    #[arg(long, value_name = "NODE|ADDRESS")]
    from: String,
    /// To whom: NODE:PORT, ADDRESS:PORT or [IPv6]:PORT, with /PROTOCOL if it is not TCP. For
    /// protocols without ports, NODE/PROTOCOL.
    #[arg(long, value_name = "NODE:PORT[/PROTO]")]
    to: String,
}

/// Splits `NODE:PORT/PROTO`.
fn target(text: &str) -> Result<(&str, u16, u8), Usage> {
    let wrong = |why: &str| Usage(format!("--to {text}: {why}; write NODE:PORT or NODE:PORT/PROTOCOL"));
    let (place, protocol) = match text.rsplit_once('/') {
        Some((place, name)) => {
            let number = service::by_name(name, true).or_else(|| name.parse().ok());
            (place, number.ok_or_else(|| wrong(&format!("unknown protocol \"{name}\"")))?)
        }
        None => (text, service::TCP),
    };
    if !service::has_ports(protocol) {
        return Ok((place.trim_end_matches(":*"), 0, protocol));
    }
    let (who, port) = place.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
    let port = port.parse().map_err(|_| wrong(&format!("\"{port}\" is no port")))?;
    Ok((who, port, protocol))
}

/// The addresses that a name or an address stands for.
fn addresses(inventory: &Inventory, network: Network, who: &str) -> Result<Vec<IpAddr>, Usage> {
    if let Some(node) = inventory.node(who) {
        let addresses = node.addresses_on(network);
        if addresses.is_empty() {
            return Err(Usage(format!("{who} has no underlay address: list them in the inventory")));
        }
        return Ok(addresses.to_vec());
    }
    let bare = who.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(who);
    match bare.parse() {
        Ok(address) => Ok(vec![address]),
        Err(_) => {
            let names: Vec<&str> = inventory.nodes.iter().map(|node| node.name.as_str()).take(20).collect();
            Err(Usage(format!("\"{who}\" is neither a node nor an address; nodes are {}", names.join(", "))))
        }
    }
}

impl Explain {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let (to, port, protocol) = target(&self.to)?;
        let Some((ruleset, inventory)) = self.on.load(global.dialect, global.json)? else {
            return Ok(Answer::No);
        };
        let (from, to) = (
            addresses(&inventory, ruleset.network, &self.from)?,
            addresses(&inventory, ruleset.network, to)?,
        );
        let now = input::now();
        let pairs = from.iter().flat_map(|source| to.iter().map(move |destination| (*source, *destination)));
        let explanations: Vec<Explanation> = pairs
            .filter(|(source, destination)| source.is_ipv4() == destination.is_ipv4())
            .map(|(source, destination)| {
                explain(&ruleset, &inventory, &Probe { source, destination, protocol, port }, now)
            })
            .collect();
        if explanations.is_empty() {
            return Err(Usage(format!("{} and {} share no address family", self.from, self.to)).into());
        }
        let allowed = explanations.iter().all(|explanation| explanation.allowed);
        if global.json {
            println!("{}", serde_json::json!({ "allowed": allowed, "pairs": explanations }));
        } else {
            explanations.iter().for_each(show);
        }
        Ok(if allowed { Answer::Yes } else { Answer::No })
    }
}

fn show(explanation: &Explanation) {
    let verdict = if explanation.allowed { "allow" } else { "deny" };
    println!("{} -> {}: {verdict}", explanation.source, explanation.destination);
    match &explanation.rule {
        Some(rule) => {
            let action = if rule.action == Action::Accept { "accept" } else { "deny" };
            let name = rule.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
            println!(
                "  rule {}{name}: {action} {} -> {} {}",
                rule.number, rule.source, rule.destination, rule.service
            );
            if let Some(location) = &rule.location {
                println!("    at {location}");
            }
        }
        None => println!("  no rule is about it: the default is deny"),
    }
    for host in &explanation.hosts {
        let verdict = if host.allowed { "allow" } else { "deny" };
        println!("  on {} ({}): {verdict}, {}", host.node, host.direction, host.reason);
    }
    if explanation.hosts.is_empty() {
        println!("  neither end is a node of the inventory: nobody enforces here");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_split_into_node_port_and_protocol() {
        assert_eq!(target("oms-1:8080").unwrap(), ("oms-1", 8080, 6));
        assert_eq!(target("oms-1:53/udp").unwrap(), ("oms-1", 53, 17));
        assert_eq!(target("[fd7a::1]:53/17").unwrap(), ("[fd7a::1]", 53, 17));
        assert_eq!(target("oms-1/icmp").unwrap(), ("oms-1", 0, 1));
        assert!(target("oms-1").is_err() && target("oms-1:http").is_err() && target("a:1/x").is_err());
    }
}
