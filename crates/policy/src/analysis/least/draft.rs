//! What was observed → a policy that admits it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::words::{Words, list, ports, quoted, with_ports};
use super::{Observed, Party};
use crate::address::AddressSet;
use crate::frontend::inventory::Inventory;
use crate::frontend::policy::Selector;
use crate::service::{has_ports, name_of};

/// Conversations that are told of at a rule.
const TOLD: usize = 8;

/// A policy, written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its text, HuJSON.
    pub text: String,
    /// How many rules it has.
    pub rules: usize,
    /// How many conversations they admit.
    pub observed: usize,
}

/// Sources, destinations and ports of one protocol, all of which were seen with each other.
type Block = (BTreeSet<Party>, BTreeSet<Party>, u8, BTreeSet<u16>);

/// Writes a policy that admits exactly what was observed, each with words on how often, over an inventory. `head` are
/// lines to begin with.
#[must_use]
pub fn draft(observed: &BTreeMap<Observed, String>, inventory: &Inventory, head: &[String]) -> Draft {
    let candidates = hosts(observed, inventory);
    let words = Words::new(inventory, &candidates);
    let blocks = blocks(observed);
    let mut used = BTreeSet::new();
    let mut rules = Vec::new();
    for block in &blocks {
        let (sources, destinations, protocol, ports) = block;
        let of = |parties| words.of(parties, &AddressSet::all(), &[]);
        let (from, to) = (of(sources), of(destinations));
        used.extend(from.iter().chain(&to).cloned());
        let ports = if has_ports(*protocol) { self::ports(ports) } else { "*".to_owned() };
        let to: Vec<String> = to.iter().map(|word| with_ports(word, &ports)).collect();
        let mut rule = comments(block, observed, inventory);
        let protocol = quoted(&name_of(*protocol));
        rule.push_str(&format!(
            "    {{\"action\": \"accept\", \"src\": {}, \"proto\": {protocol}, \"dst\": {}}}",
            list(&from),
            list(&to)
        ));
        rules.push(rule);
    }
    let mut text: String = head.iter().map(|line| format!("// {}\n", one_line(line))).collect();
    text.push_str("{\n");
    section(&mut text, "tagOwners", tags(inventory).map(|tag| format!("{}: []", quoted(tag))));
    let named = candidates.iter().filter(|(name, _)| used.contains(name));
    section(
        &mut text,
        "hosts",
        named.map(|(name, net)| format!("{}: {}", quoted(name), quoted(&net.addr().to_string()))),
    );
    text.push_str("  \"acls\": [\n");
    text.push_str(&rules.join(",\n"));
    text.push_str(if rules.is_empty() { "  ]\n}\n" } else { "\n  ]\n}\n" });
    Draft { text, rules: rules.len(), observed: observed.len() }
}

fn section(text: &mut String, name: &str, entries: impl Iterator<Item = String>) {
    let entries: Vec<String> = entries.map(|entry| format!("    {entry}")).collect();
    if !entries.is_empty() {
        text.push_str(&format!("  {}: {{\n{}\n  }},\n", quoted(name), entries.join(",\n")));
    }
}

fn tags(inventory: &Inventory) -> impl Iterator<Item = &str> {
    let tags: BTreeSet<&str> =
        inventory.nodes.iter().flat_map(|node| node.tags().iter().map(String::as_str)).collect();
    tags.into_iter()
}

/// Names for the addresses of nodes that were observed: the node's, if a policy can have it.
fn hosts(observed: &BTreeMap<Observed, String>, inventory: &Inventory) -> Vec<(String, IpNet)> {
    let parties: BTreeSet<Party> =
        observed.keys().flat_map(|observed| [observed.source, observed.destination]).collect();
    let mut names: BTreeMap<String, IpAddr> = BTreeMap::new();
    for party in parties.into_iter().filter(|party| matches!(party, Party::Node(_))) {
        let title = party.title(inventory);
        for (number, address) in (1..).zip(party.addresses(inventory)) {
            let name = if number == 1 { title.clone() } else { format!("{title}-{number}") };
            // Another node may have this for its name.
            let is_taken = names.contains_key(&name) || (number > 1 && inventory.node(&name).is_some());
            if !is_taken && matches!(Selector::parse(&name), Ok(Selector::Host(_))) {
                names.insert(name, address);
            }
        }
    }
    names.into_iter().map(|(name, address)| (name, IpNet::from(address))).collect()
}

/// The blocks that hold all that was observed, each combination once, and no other.
fn blocks(observed: &BTreeMap<Observed, String>) -> Vec<Block> {
    let mut sources: BTreeMap<(Party, u8, u16), BTreeSet<Party>> = BTreeMap::new();
    for Observed { source, destination, protocol, port } in observed.keys() {
        sources.entry((*destination, *protocol, *port)).or_default().insert(*source);
    }
    let mut ports: BTreeMap<(Party, u8, BTreeSet<Party>), BTreeSet<u16>> = BTreeMap::new();
    for ((destination, protocol, port), sources) in sources {
        ports.entry((destination, protocol, sources)).or_default().insert(port);
    }
    let mut destinations: BTreeMap<(u8, BTreeSet<Party>, BTreeSet<u16>), BTreeSet<Party>> = BTreeMap::new();
    for ((destination, protocol, sources), ports) in ports {
        destinations.entry((protocol, sources, ports)).or_default().insert(destination);
    }
    let all = destinations.into_iter();
    all.map(|((protocol, sources, ports), destinations)| (sources, destinations, protocol, ports)).collect()
}

fn comments(block: &Block, observed: &BTreeMap<Observed, String>, inventory: &Inventory) -> String {
    let (sources, destinations, protocol, ports) = block;
    let mut told = Vec::new();
    for (source, destination) in
        sources.iter().flat_map(|from| destinations.iter().map(move |to| (*from, *to)))
    {
        for port in ports {
            let key = Observed { source, destination, protocol: *protocol, port: *port };
            let Some(words) = observed.get(&key) else { continue };
            let (from, to) = (source.title(inventory), destination.title(inventory));
            let service = match has_ports(*protocol) {
                true => format!("{}:{port}", name_of(*protocol)),
                false => name_of(*protocol),
            };
            told.push(format!("    // {}\n", one_line(&format!("{from} → {to} {service}: {words}"))));
        }
    }
    let more = told.len().saturating_sub(TOLD);
    told.truncate(TOLD);
    if more > 0 {
        told.push(format!("    // and {more} more\n"));
    }
    told.concat()
}

/// A comment ends with its line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c })
        .collect()
}
