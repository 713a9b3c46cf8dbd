//! Rows of histories → conversations between identities.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use bulkhead_policy::fingerprint::fingerprints;
use bulkhead_policy::inventory::{Inventory, Network, Node};
use bulkhead_policy::least::{Observed, Party};
use bulkhead_policy::resolve::granted::is_grant;
use bulkhead_policy::resolve::{Rule, Ruleset};
use bulkhead_policy::service::has_ports;

use super::{OfHost, Question, date, times};
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
    /// Looks in which it admitted a conversation.
    pub looks: u64,
    /// Packets that it denied, or would have but for audit mode.
    pub packets: u64,
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

/// Use of each rule of a question's policy, on both networks, by its number.
#[must_use]
pub fn of_question(question: &Question) -> HashMap<u32, OfRule> {
    let loaded = &question.loaded;
    let (Some(ruleset), Some(inventory)) = (&loaded.ruleset, &loaded.inventory) else {
        return HashMap::new();
    };
    let exchange = loaded.exchange.iter().map(|exchange| (exchange, "exchange\n"));
    let rulesets: Vec<(&Ruleset, &str)> = std::iter::once((ruleset, "")).chain(exchange).collect();
    by_rule(&question.hosts, &rulesets, inventory)
}

fn by_rule(hosts: &[OfHost], rulesets: &[(&Ruleset, &str)], inventory: &Inventory) -> HashMap<u32, OfRule> {
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
        for used in host.used.iter().filter(|used| used.what.verdict.is_use()) {
            let Some(number) = used.what.rule.as_ref().and_then(|rule| numbers.get(rule)) else { continue };
            let of = by_rule.entry(*number).or_default();
            of.last = of.last.max(used.last);
            let count = if used.what.verdict == Verdict::Allowed { &mut of.looks } else { &mut of.packets };
            *count = count.saturating_add(used.count);
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
    /// Rows of addresses beneath the overlay, which rules of acls do not mean.
    pub beneath: u64,
    /// Rows that only a rule admitted that ends by itself.
    pub ending: u64,
    /// Rows that a grant admitted, which is nothing that the policy is to admit.
    pub granted: u64,
}

/// What was used, and what audit mode would have dropped.
#[must_use]
pub fn wanted(question: &Question) -> Wanted {
    let mut wanted = Wanted::default();
    let (Some(ruleset), Some(inventory)) = (&question.loaded.ruleset, &question.loaded.inventory) else {
        return wanted;
    };
    let ends = ends(ruleset);
    let mut seen: BTreeMap<Observed, Counts> = BTreeMap::new();
    let rules = question.hosts.iter().flat_map(|host| &host.rules).map(|rule| &rule.note);
    let grants: BTreeSet<&str> =
        rules.filter(|note| is_grant(note.number)).map(|note| note.fingerprint.as_str()).collect();
    let rows = question.hosts.iter().flat_map(|host| &host.used);
    for used in rows
        .filter(|used| matches!(used.what.verdict, Verdict::Allowed | Verdict::Audited | Verdict::WouldDrop))
    {
        let is_granted = used.what.verdict == Verdict::Allowed
            && used.what.rule.as_ref().is_some_and(|rule| grants.contains(rule.as_str()));
        match conversation(used, inventory) {
            _ if is_granted => wanted.granted += 1,
            None => wanted.unknown += 1,
            Some(_) if !is_on_overlay(used, inventory) => wanted.beneath += 1,
            Some(observed) => seen.entry(observed).or_default().add(used, &ends),
        }
    }
    for (observed, counts) in seen {
        let words = counts.words();
        wanted.ending += u64::from(counts.ends().is_some());
        let began = counts.has(Verdict::Allowed) || counts.has(Verdict::Audited);
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

/// Whether both ends were seen by addresses that rules of acls mean: not those beneath the overlay.
fn is_on_overlay(used: &Used, inventory: &Inventory) -> bool {
    let is_beneath = |node: &Node, address: &IpAddr| {
        let overlay = node.addresses_on(Network::Overlay);
        overlay.is_empty() || (node.underlay.contains(address) && !overlay.contains(address))
    };
    [&used.what.source, &used.what.destination].into_iter().all(|end| {
        let Some(address) = end.address else { return false };
        match Party::of(inventory, end.name.as_deref(), address) {
            Party::Node(index) => {
                inventory.nodes.get(index as usize).is_some_and(|node| !is_beneath(node, &address))
            }
            Party::Address(_) => true,
        }
    })
}

/// When each rule that ends by itself does, s since the Unix epoch, by fingerprint.
fn ends(ruleset: &Ruleset) -> HashMap<String, u64> {
    let all: Vec<usize> = (0..ruleset.rules.len()).collect();
    let rules = fingerprints(ruleset, &all, "").into_iter().zip(&ruleset.rules);
    rules.filter_map(|(print, rule)| Some((print, rule.expires? / 1_000_000_000))).collect()
}

/// How often something was seen, and when last, by verdict; and the end of the rules that admitted it.
#[derive(Default)]
struct Counts {
    seen: BTreeMap<Verdict, (u64, u64)>,
    /// The latest end of a rule that admitted it.
    ends: u64,
    /// A rule without an end admitted it, too.
    is_lasting: bool,
}

impl Counts {
    fn add(&mut self, used: &Used, ends: &HashMap<String, u64>) {
        let counts = self.seen.entry(used.what.verdict).or_default();
        *counts = (counts.0.saturating_add(used.count), counts.1.max(used.last));
        if used.what.verdict == Verdict::Allowed {
            match used.what.rule.as_ref().and_then(|rule| ends.get(rule)) {
                Some(end) => self.ends = self.ends.max(*end),
                None => self.is_lasting = true,
            }
        }
    }

    fn has(&self, verdict: Verdict) -> bool {
        self.seen.contains_key(&verdict)
    }

    /// When all rules that admitted it have ended.
    fn ends(&self) -> Option<u64> {
        (self.ends != 0 && !self.is_lasting).then_some(self.ends)
    }

    fn words(&self) -> String {
        let last = self.seen.values().map(|(_, last)| *last).max().unwrap_or(0);
        let one = |(verdict, (count, _)): (&Verdict, &(u64, u64))| match verdict {
            Verdict::Allowed => format!("admitted, seen in {}", times(*count, "look")),
            Verdict::Audited => format!("no rule admits it, seen in {}", times(*count, "look")),
            _ => format!("{} would be dropped", times(*count, "packet")),
        };
        let counts: Vec<String> = self.seen.iter().map(one).collect();
        let ends = self
            .ends()
            .map(|end| format!("; by a rule that ends on {}: give this one an end, too", date(end)));
        format!("{}; last on {}{}", counts.join("; "), date(last), ends.unwrap_or_default())
    }
}
