//! A rule and its use → whether it is wider, and the narrower rule.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::words::{Words, list, ports, quoted, with_ports};
use super::{Observed, Party, addresses_of, nodes_in};
use crate::address::AddressSet;
use crate::frontend::inventory::Inventory;
use crate::frontend::policy::{self, Action, Policy, Section};
use crate::interval::Intervals;
use crate::resolve::{Rule, Ruleset, SelectorId};
use crate::service::{has_ports, name_of};

/// Ports, and addresses that no node has, of which a rule is written for each: more are no list that anybody reads.
const MOST: usize = 64;

/// What a rule is narrowed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Narrowing {
    /// Every source, destination and port of it was used.
    AsUsed,
    /// It is wider than its use; where, and the rules in its place.
    Narrower {
        /// Where it is wider.
        wider: Vec<Axis>,
        /// One rule or more, as they stand in a policy, separated by commas.
        text: String,
    },
    /// It cannot be said more narrowly here.
    Kept(&'static str),
}

/// One side of a rule that is wider than its use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Axis {
    /// `sources`, `destinations` or `ports`.
    pub what: &'static str,
    /// How many of it there are: nodes, or ports.
    pub has: usize,
    /// Those that were used.
    pub used: Vec<String>,
}

/// Those of some nodes that see use of a rule: its sources and its destinations.
#[must_use]
pub fn seeing(
    ruleset: &Ruleset,
    rule: &Rule,
    inventory: &Inventory,
    nodes: &BTreeSet<Party>,
) -> BTreeSet<Party> {
    let ends = sources(ruleset, rule).union(&destinations(ruleset, rule));
    nodes.iter().copied().filter(|party| party.is_in(inventory, &ends)).collect()
}

/// Whether some nodes together see all use of a rule: all of its destinations, or all of its sources.
#[must_use]
pub fn is_covered(ruleset: &Ruleset, rule: &Rule, inventory: &Inventory, nodes: &BTreeSet<Party>) -> bool {
    let seen = addresses_of(inventory, nodes.iter().copied());
    let is_seen = |set: &AddressSet| set.minus(&seen).is_empty();
    is_seen(&sources(ruleset, rule)) || is_seen(&destinations(ruleset, rule))
}

/// Narrows a rule of `acls` or `grants` to its use.
#[must_use]
pub fn narrow(
    policy: &Policy,
    ruleset: &Ruleset,
    rule: &Rule,
    inventory: &Inventory,
    used: &[Observed],
) -> Narrowing {
    let written = policy.acls.iter().flatten().chain(policy.grants.iter().flatten());
    let Some(written) = written.into_iter().nth((rule.number as usize).wrapping_sub(1)) else {
        return Narrowing::Kept("it is no rule of acls or grants");
    };
    if rule.action == Action::Deny {
        return Narrowing::Kept("it denies: a narrower one would admit more");
    }
    if !written.via.is_empty() {
        return Narrowing::Kept("routers carry it (via)");
    }
    let own = policy::Selector::Autogroup(policy::Autogroup::OwnDevices);
    if written.destinations.iter().any(|destination| destination.selector.value == own) {
        return Narrowing::Kept("it joins each user's own devices (autogroup:self)");
    }
    let rule = Narrow { policy, ruleset, rule, written, inventory, used };
    rule.narrow()
}

fn union<'a>(ruleset: &'a Ruleset, ids: impl Iterator<Item = &'a SelectorId>) -> AddressSet {
    ids.fold(AddressSet::default(), |all, id| all.union(&ruleset.selector(*id).set))
}

fn sources(ruleset: &Ruleset, rule: &Rule) -> AddressSet {
    union(ruleset, rule.blocks.iter().flat_map(|block| &block.sources))
}

fn destinations(ruleset: &Ruleset, rule: &Rule) -> AddressSet {
    union(ruleset, rule.blocks.iter().flat_map(|block| block.destinations.iter().map(|(id, _)| id)))
}

struct Narrow<'a> {
    policy: &'a Policy,
    ruleset: &'a Ruleset,
    rule: &'a Rule,
    written: &'a policy::Rule,
    inventory: &'a Inventory,
    used: &'a [Observed],
}

/// One side: whom it means, and who of them was seen.
struct Side {
    set: AddressSet,
    used: BTreeSet<Party>,
    is_wider: bool,
    /// It was used by somebody whom it does not mean any more.
    has_left: bool,
    has: usize,
}

impl Narrow<'_> {
    fn narrow(&self) -> Narrowing {
        let from = self.side(sources(self.ruleset, self.rule), |observed| observed.source);
        let to = self.side(destinations(self.ruleset, self.rule), |observed| observed.destination);
        if from.has_left || to.has_left {
            return Narrowing::Kept("it was used by or with somebody whom it does not name any more");
        }
        let (all, used_ports) = self.ports();
        let is_many = used_ports.len() > MOST;
        let unused = all.minus(&Intervals::new(used_ports.iter().map(|port| (*port, *port)).collect()));
        // Without any port only echo was seen.
        let wider_ports = !is_many && !unused.is_empty();
        let mut wider = Vec::new();
        for (what, side) in [("sources", &from), ("destinations", &to)] {
            if side.is_wider {
                let used = side.used.iter().map(|party| party.title(self.inventory)).collect();
                wider.push(Axis { what, has: side.has, used });
            }
        }
        if wider_ports {
            let has = all.as_slice().iter().map(|(first, last)| usize::from(last - first) + 1).sum();
            let used = used_ports.iter().map(u16::to_string).collect();
            wider.push(Axis { what: "ports", has, used });
        }
        if wider.is_empty() {
            return Narrowing::AsUsed;
        }
        let texts = self.rules(&from, &to, !is_many);
        Narrowing::Narrower { wider, text: texts.join(",\n    ") }
    }

    fn side(&self, set: AddressSet, of: impl Fn(&Observed) -> Party) -> Side {
        let used: BTreeSet<Party> = self.used.iter().map(of).collect();
        let nodes = nodes_in(self.inventory, &set);
        let others: Vec<_> = used.iter().filter(|party| !nodes.contains(party)).copied().collect();
        let known = addresses_of(self.inventory, nodes.iter().copied().chain(others.iter().copied()));
        let has_more = !set.minus(&known).is_empty();
        let has_left = !used.iter().all(|party| party.is_in(self.inventory, &set));
        let is_wider = others.len() <= MOST && (has_more || !nodes.is_subset(&used));
        Side { has: nodes.len() + others.len() + usize::from(has_more), set, used, is_wider, has_left }
    }

    /// The ports that the rule names, and those that were used, whatever the protocol.
    fn ports(&self) -> (Intervals<u16>, BTreeSet<u16>) {
        let services = self.rule.blocks.iter().flat_map(|block| &block.destinations);
        let all = services.fold(Intervals::default(), |all: Intervals<u16>, (_, id)| {
            all.union(&self.ruleset.service(*id).ports)
        });
        let used = self.used.iter().filter(|observed| has_ports(observed.protocol));
        (all, used.map(|observed| observed.port).collect())
    }

    /// Words of one side: as written if it is not wider.
    fn words<'i>(
        &self,
        side: &Side,
        written: impl Iterator<Item = &'i SelectorId>,
        used: &BTreeSet<Party>,
    ) -> Vec<String> {
        let written: BTreeSet<SelectorId> = written.copied().collect();
        let written: Vec<_> = written.into_iter().map(|id| self.ruleset.selector(id)).collect();
        if !side.is_wider && *used == side.used {
            return written.iter().map(|selected| selected.label.clone()).collect();
        }
        let hosts: Vec<_> = self.policy.hosts.iter().map(|(name, net)| (name.value.clone(), *net)).collect();
        let own: Vec<(&str, BTreeSet<Party>)> = written
            .iter()
            .filter_map(|selected| {
                let nodes = nodes_in(self.inventory, &selected.set);
                let named = addresses_of(self.inventory, nodes.iter().copied());
                selected.set.minus(&named).is_empty().then_some((selected.label.as_str(), nodes))
            })
            .collect();
        Words::new(self.inventory, &hosts).of(used, &side.set, &own)
    }

    fn rules(&self, from: &Side, to: &Side, with_ports: bool) -> Vec<String> {
        let blocks = &self.rule.blocks;
        let sources = self.words(from, blocks.iter().flat_map(|block| &block.sources), &from.used);
        // Destinations that were used alike are written together.
        let mut alike: BTreeMap<Vec<String>, BTreeSet<Party>> = BTreeMap::new();
        for party in &to.used {
            let services = self.services(*party, with_ports);
            alike.entry(services).or_default().insert(*party);
        }
        let mut texts = Vec::new();
        let mut acls: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
        for (services, parties) in &alike {
            let written = blocks.iter().flat_map(|block| block.destinations.iter().map(|(id, _)| id));
            let destinations = self.words(to, written, parties);
            if self.rule.section == Section::Grants {
                let fields = format!("\"dst\": {}, \"ip\": {}", list(&destinations), list(services));
                texts.push(self.rule(&sources, &fields, texts.len()));
                continue;
            }
            for service in services {
                let (protocol, ports) = match service.split_once(':') {
                    Some((protocol, ports)) => (Some(protocol.to_owned()), ports),
                    None => (None, service.as_str()),
                };
                let entries = destinations.iter().map(|word| self::with_ports(word, ports));
                acls.entry(protocol).or_default().extend(entries);
            }
        }
        for (protocol, destinations) in acls {
            let protocol = protocol.map(|name| format!("\"proto\": {}, ", quoted(&name))).unwrap_or_default();
            let fields = format!("{protocol}\"dst\": {}", list(&destinations));
            texts.push(self.rule(&sources, &fields, texts.len()));
        }
        texts
    }

    /// What was used at a destination, as the rule writes it: `443`, `tcp:443` or `icmp:*`. A rule without a protocol
    /// stays one.
    fn services(&self, party: Party, with_ports: bool) -> Vec<String> {
        let here = || self.used.iter().filter(|observed| observed.destination == party);
        let named: BTreeSet<Option<u8>> = self
            .written
            .destinations
            .iter()
            .flat_map(|to| to.services.iter().map(|(name, _)| *name))
            .collect();
        let is_open = |protocol: u8| !named.contains(&Some(protocol)) && named.contains(&None);
        let mut by_protocol: BTreeMap<Option<u8>, BTreeSet<u16>> = BTreeMap::new();
        for observed in here().filter(|observed| has_ports(observed.protocol)) {
            let protocol = Some(observed.protocol).filter(|protocol| !is_open(*protocol));
            by_protocol.entry(protocol).or_default().insert(observed.port);
        }
        let text = |(protocol, used): (&Option<u8>, &BTreeSet<u16>)| {
            let ports = if with_ports { ports(used) } else { self.written_ports(*protocol) };
            protocol.map_or(ports.clone(), |protocol| format!("{}:{ports}", name_of(protocol)))
        };
        let mut services: Vec<String> = by_protocol.iter().map(text).collect();
        // A rule without a protocol admits echo along with its ports.
        let has_open = by_protocol.contains_key(&None);
        let portless: BTreeSet<u8> = here()
            .map(|observed| observed.protocol)
            .filter(|protocol| !(has_ports(*protocol) || has_open && is_open(*protocol)))
            .collect();
        services.extend(portless.into_iter().map(|protocol| format!("{}:*", name_of(protocol))));
        services.sort();
        services
    }

    /// All ports that the rule has of a protocol.
    fn written_ports(&self, protocol: Option<u8>) -> String {
        let services = self.written.destinations.iter().flat_map(|to| &to.services);
        let own = services.filter(|(name, _)| *name == protocol);
        let all = own.fold(Intervals::default(), |all: Intervals<u16>, (_, ports)| all.union(ports));
        let range = |(first, last): &(u16, u16)| match (first, last) {
            (0, &u16::MAX) => "*".to_owned(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        all.as_slice().iter().map(range).collect::<Vec<_>>().join(",")
    }

    /// One rule, with the fields that the written one has besides.
    fn rule(&self, sources: &[String], fields: &str, before: usize) -> String {
        let mut text = String::from("{");
        if let Some(name) = &self.written.name {
            // No two rules have one name.
            let name =
                if before == 0 { name.value.clone() } else { format!("{} {}", name.value, before + 1) };
            text.push_str(&format!("\"name\": {}, ", quoted(&name)));
        }
        if self.rule.section == Section::Acls {
            text.push_str("\"action\": \"accept\", ");
        }
        text.push_str(&format!("\"src\": {}, {fields}", list(sources)));
        if !self.written.posture.is_empty() {
            let words: Vec<_> = self.written.posture.iter().map(|word| word.value.clone()).collect();
            text.push_str(&format!(", \"srcPosture\": {}", list(&words)));
        }
        if let Some(expires) = &self.written.expires {
            let written = &self.policy.source.text()[expires.span.start..expires.span.end];
            text.push_str(&format!(", \"expires\": {written}"));
        }
        let rates = &self.written.rates;
        for (name, rate) in [("maxPacketsPerSecond", rates.packets), ("maxNewPerSecond", rates.new_flows)] {
            if let Some(rate) = rate {
                text.push_str(&format!(", \"{name}\": {rate}"));
            }
        }
        for (name, value) in self.written.record.fields() {
            text.push_str(&format!(", \"{name}\": {}", quoted(&value)));
        }
        text.push('}');
        text
    }
}
