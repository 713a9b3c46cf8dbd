//! Parties → the selectors that mean them and nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Party;
use crate::address::AddressSet;
use crate::frontend::inventory::{Inventory, Network};
use crate::frontend::policy::Selector;

/// Words that stand for sets of parties.
pub(super) struct Words<'a> {
    inventory: &'a Inventory,
    /// A policy's own names of single addresses.
    hosts: BTreeMap<IpAddr, &'a str>,
    /// Tags and users, with all their nodes.
    owners: Vec<(&'a str, BTreeSet<Party>)>,
}

impl<'a> Words<'a> {
    pub(super) fn new(inventory: &'a Inventory, hosts: &'a [(String, IpNet)]) -> Self {
        let mut owners: BTreeMap<&str, BTreeSet<Party>> = BTreeMap::new();
        for (index, node) in (0..).zip(&inventory.nodes) {
            let words = node.tags().iter().map(String::as_str).chain(node.user());
            words.for_each(|word| {
                owners.entry(word).or_default().insert(Party::Node(index));
            });
        }
        let is_readable =
            |word: &str| matches!(Selector::parse(word), Ok(Selector::Tag(_) | Selector::User(_)));
        let owners = owners.into_iter().filter(|(word, _)| is_readable(word)).collect();
        let single = hosts.iter().filter(|(_, net)| net.prefix_len() == net.max_prefix_len());
        let hosts = single.map(|(name, net)| (net.addr(), name.as_str())).collect();
        Self { inventory, hosts, owners }
    }

    /// The words that mean some parties, of whom only addresses within a set count. `own` are words to take first, each
    /// with whom it means: they are taken if all of them are meant.
    pub(super) fn of(
        &self,
        parties: &BTreeSet<Party>,
        within: &AddressSet,
        own: &[(&str, BTreeSet<Party>)],
    ) -> Vec<String> {
        let mut left = parties.clone();
        let mut words = Vec::new();
        let take =
            |word: &str, members: &BTreeSet<Party>, left: &mut BTreeSet<Party>, words: &mut Vec<String>| {
                if !members.is_empty() && members.is_subset(parties) && !members.is_disjoint(left) {
                    words.push(word.to_owned());
                    left.retain(|party| !members.contains(party));
                }
            };
        own.iter().for_each(|(word, members)| take(word, members, &mut left, &mut words));
        // The largest first: fewer words.
        let mut owners: Vec<_> =
            self.owners.iter().filter(|(_, members)| self.is_within(members, within)).collect();
        owners.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
        for (word, members) in owners {
            if members.len() > 1 || matches!(Selector::parse(word), Ok(Selector::Tag(_))) {
                take(word, members, &mut left, &mut words);
            }
        }
        for party in left {
            let addresses =
                party.addresses(self.inventory).into_iter().filter(|address| within.contains(*address));
            words.extend(addresses.map(|address| self.address(address)));
        }
        words
    }

    fn is_within(&self, members: &BTreeSet<Party>, within: &AddressSet) -> bool {
        let nodes = members.iter().filter_map(|party| party.node(self.inventory));
        nodes.flat_map(|node| node.addresses_on(Network::Overlay)).all(|address| within.contains(*address))
    }

    fn address(&self, address: IpAddr) -> String {
        match self.hosts.get(&address) {
            Some(name) => (*name).to_owned(),
            None => address.to_string(),
        }
    }
}

/// A word with ports as acls write it: IPv6 addresses in brackets.
pub(super) fn with_ports(word: &str, ports: &str) -> String {
    if word.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{word}]:{ports}")
    } else {
        format!("{word}:{ports}")
    }
}

/// Ports as a policy writes them, neighbours as a range.
pub(super) fn ports(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, end)) if u32::from(*end) + 1 == u32::from(*port) => *end = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    let text = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    text.collect::<Vec<_>>().join(",")
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A JSON list of strings.
pub(super) fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}
