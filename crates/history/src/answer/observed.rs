//! Rows of histories → conversations between identities.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bulkhead_policy::fingerprint::fingerprints;
use bulkhead_policy::inventory::{Inventory, Network};
use bulkhead_policy::least::{Observed, Party};
use bulkhead_policy::resolve::{Rule, Ruleset};
use bulkhead_policy::service::has_ports;

use super::{OfHost, date, times};
use crate::{DAY, End, Used, Verdict};

/// From here on ports are those that clients begin from (Linux's ip_local_port_range).
const EPHEMERAL: u16 = 32_768;

/// Use of one rule.
#[derive(Default)]
pub struct OfRule {
    /// By whom.
    pub observed: BTreeSet<Observed>,
    /// It was used by somebody who is not known.
    pub is_unknown: bool,
    /// When last, s since the Unix epoch.
    pub last: u64,
    /// Since when it is known on every host that has it: the latest of them; none: no host has it.
    pub known_since: Option<u64>,
    /// Whose hosts have it.
    pub known_by: BTreeSet<Party>,
}

impl OfRule {
    /// Whether it was used at all.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.last != 0
    }
}

/// Use of each rule of a policy, by its number.
#[must_use]
pub fn by_rule(
    hosts: &[OfHost],
    rulesets: &[(&Ruleset, &str)],
    inventory: &Inventory,
) -> HashMap<u32, OfRule> {
    let mut numbers: HashMap<String, u32> = HashMap::new();
    for (ruleset, of) in rulesets {
        let all: Vec<usize> = (0..ruleset.rules.len()).collect();
        let prints = fingerprints(ruleset, &all, of);
        numbers.extend(prints.into_iter().zip(ruleset.rules.iter().map(|rule: &Rule| rule.number)));
    }
    let mut by_rule: HashMap<u32, OfRule> = HashMap::new();
    for host in hosts {
        for rule in host.rules.iter().filter(|rule| rule.in_force) {
            let Some(number) = numbers.get(&rule.note.fingerprint) else { continue };
            let first =
                host.coverage.first_day.map_or(u64::MAX, |day| day.unsigned_abs().saturating_mul(DAY));
            let since = rule.since.max(first);
            let of = by_rule.entry(*number).or_default();
            of.known_by.extend(inventory.index(&host.node).map(Party::Node));
            of.known_since = Some(of.known_since.map_or(since, |known| known.max(since)));
        }
        for used in host.used.iter().filter(|used| is_use(used.what.verdict)) {
            let Some(number) = used.what.rule.as_ref().and_then(|rule| numbers.get(rule)) else { continue };
            let of = by_rule.entry(*number).or_default();
            of.last = of.last.max(used.last);
            match conversation(used, inventory) {
                Some(observed) => {
                    of.observed.insert(observed);
                }
                None => of.is_unknown = true,
            }
        }
    }
    by_rule
}

/// Whether a rule was used: it admitted or denied. What a staged policy would do is none of its use.
const fn is_use(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Allowed | Verdict::Dropped | Verdict::WouldDrop)
}

/// Who talked with whom; none if either is not known.
#[must_use]
pub fn conversation(used: &Used, inventory: &Inventory) -> Option<Observed> {
    let party = |end: &End| Some(Party::of(inventory, end.name.as_deref(), end.address?));
    let source = party(&used.what.source)?;
    let destination = party(&used.what.destination)?;
    Some(Observed { source, destination, protocol: used.what.protocol, port: used.what.port })
}

/// What a policy is to admit, each with words on how often, and what was left out.
#[derive(Default)]
pub struct Wanted {
    /// What was used, or would have been dropped.
    pub observed: BTreeMap<Observed, String>,
    /// What was seen and looks like answers to what began before the agent did, and what no rule can name: protocol
    /// 0, port 0.
    pub left_out: Vec<String>,
    /// Rows whose ends are not known.
    pub unknown: u64,
}

/// What was used, and what audit mode would have dropped.
#[must_use]
pub fn wanted(hosts: &[OfHost], inventory: &Inventory) -> Wanted {
    let mut wanted = Wanted::default();
    let mut seen: BTreeMap<Observed, BTreeMap<Verdict, (u64, u64)>> = BTreeMap::new();
    let rows = hosts.iter().flat_map(|host| &host.used);
    for used in rows
        .filter(|used| matches!(used.what.verdict, Verdict::Allowed | Verdict::Audited | Verdict::WouldDrop))
    {
        match conversation(used, inventory).filter(|observed| is_on_overlay(observed, inventory)) {
            None => wanted.unknown += 1,
            Some(observed) => {
                let counts = seen.entry(observed).or_default().entry(used.what.verdict).or_default();
                *counts = (counts.0.saturating_add(used.count), counts.1.max(used.last));
            }
        }
    }
    for (observed, counts) in seen {
        let words = words(&counts);
        let began = counts.contains_key(&Verdict::Allowed) || counts.contains_key(&Verdict::Audited);
        let is_writable = observed.protocol != 0 && (observed.port != 0 || !has_ports(observed.protocol));
        if is_writable && (began || observed.port < EPHEMERAL) {
            wanted.observed.insert(observed, words);
        } else {
            let (from, to) = (observed.source.title(inventory), observed.destination.title(inventory));
            wanted.left_out.push(format!("{from} → {to} port {}: {words}", observed.port));
        }
    }
    wanted
}

/// A node that is seen by its underlay address alone is no identity of acls.
fn is_on_overlay(observed: &Observed, inventory: &Inventory) -> bool {
    [observed.source, observed.destination].into_iter().all(|party| match party {
        Party::Node(index) => inventory
            .nodes
            .get(index as usize)
            .is_some_and(|node| !node.addresses_on(Network::Overlay).is_empty()),
        Party::Address(_) => true,
    })
}

fn words(counts: &BTreeMap<Verdict, (u64, u64)>) -> String {
    let last = counts.values().map(|(_, last)| *last).max().unwrap_or(0);
    let one = |(verdict, (count, _)): (&Verdict, &(u64, u64))| match verdict {
        Verdict::Allowed => format!("admitted, seen in {}", times(*count, "look")),
        Verdict::Audited => format!("no rule admits it, seen in {}", times(*count, "look")),
        _ => format!("{} would be dropped", times(*count, "packet")),
    };
    let counts: Vec<String> = counts.iter().map(one).collect();
    format!("{}; last on {}", counts.join("; "), date(last))
}
