//! How far a policy is from its use.

use std::collections::BTreeSet;

use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::least::{Axis, Narrowing, Party, is_covered, narrow, seeing};
use bulkhead_policy::policy::{Action, Policy, Record, Section};
use bulkhead_policy::resolve::{Rule, Ruleset};
use bulkhead_policy::service::{has_ports, name_of};
use serde::Serialize;

use super::observed::{self, OfRule};
use super::{Question, date, days};
use crate::{DAY, End, Verdict};

/// The answer.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Since when, RFC 3339's day.
    pub since: String,
    /// Days from then until now.
    pub days: u64,
    /// The hosts whose history it is from.
    pub hosts: Vec<Host>,
    /// How many rules of acls and grants, and lanes of venues, there are.
    pub rules: usize,
    /// How many of them were used and are no wider.
    pub as_used: usize,
    /// Never used in that time.
    pub unused: Vec<Named>,
    /// Used, and wider than their use.
    pub wider: Vec<Wider>,
    /// Used, by whom is not known, or not to be said more narrowly.
    pub kept: Vec<Kept>,
    /// In force for a shorter time than was asked about.
    pub not_known: Vec<NotKnown>,
    /// Other hosts may use them, whose history was not named.
    pub elsewhere: Vec<Elsewhere>,
    /// What passed, and only the staged policy would have stopped.
    pub staged: Vec<Staged>,
}

/// A host.
#[derive(Debug, Serialize)]
pub struct Host {
    /// Its node.
    pub node: String,
    /// The first day that it knows; none: no day.
    pub first_day: Option<String>,
    /// Days since the asked time without a look.
    pub missing_days: u64,
}

/// A rule.
#[derive(Clone, Debug, Serialize)]
pub struct Named {
    /// Its number in the policy.
    pub number: u32,
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// File, line and column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// `accept` or `deny`.
    pub action: Action,
    /// Who answers for it, and why it is there.
    pub record: Record,
}

/// A rule that is wider than its use.
#[derive(Debug, Serialize)]
pub struct Wider {
    /// Which.
    #[serde(flatten)]
    pub rule: Named,
    /// The day of its last use.
    pub last_used: String,
    /// Where it is wider.
    pub wider: Vec<Axis>,
    /// The rules in its place, HuJSON.
    pub narrower: String,
}

/// A rule that stays as it is.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// Which.
    #[serde(flatten)]
    pub rule: Named,
    /// Why.
    pub why: String,
}

/// A rule that is not known for long enough.
#[derive(Debug, Serialize)]
pub struct NotKnown {
    /// Which.
    #[serde(flatten)]
    pub rule: Named,
    /// For how many days it is known.
    pub days: u64,
    /// Whether it was used in these.
    pub used: bool,
}

/// A rule of which not all use is seen.
#[derive(Debug, Serialize)]
pub struct Elsewhere {
    /// Which.
    #[serde(flatten)]
    pub rule: Named,
    /// Whether it was used, as far as is seen.
    pub used: bool,
}

/// What the staged policy would have stopped.
#[derive(Clone, Debug, Serialize)]
pub struct Staged {
    /// Who.
    pub source: String,
    /// With whom.
    pub destination: String,
    /// Protocol, by its name or number.
    pub protocol: String,
    /// Port; absent for protocols without ports, and where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Packets.
    pub packets: u64,
    /// The day of the last.
    pub last: String,
}

impl Staged {
    fn ends(&self) -> [String; 3] {
        [self.source.clone(), self.destination.clone(), self.protocol.clone()]
    }
}

impl Report {
    /// Answers a question.
    #[must_use]
    pub fn new(question: &Question) -> Self {
        let Question { loaded, hosts, since, now } = question;
        let mut report = Self { since: date(*since), days: days(*since, *now), ..Self::default() };
        report.hosts = hosts
            .iter()
            .map(|host| Host {
                node: host.node.clone(),
                first_day: host.coverage.first_day.map(|day| date(day.unsigned_abs().saturating_mul(DAY))),
                missing_days: host.coverage.missing_days,
            })
            .collect();
        let (Some(policy), Some(ruleset), Some(inventory)) =
            (&loaded.policy, &loaded.ruleset, &loaded.inventory)
        else {
            return report;
        };
        let mut by_rule = observed::of_question(question);
        let nodes: BTreeSet<Party> =
            hosts.iter().filter_map(|host| inventory.index(&host.node)).map(Party::Node).collect();
        let missing_days = hosts.iter().map(|host| host.coverage.missing_days).max().unwrap_or(0);
        let look = Look { policy, ruleset, inventory, nodes, missing_days, since: *since, now: *now };
        for rule in ruleset.rules.iter().filter(|rule| is_judged(rule)) {
            report.rules += 1;
            look.judge(rule, &by_rule.remove(&rule.number).unwrap_or_default(), &mut report);
        }
        report.staged = staged(question, inventory);
        report
    }
}

/// Whether a rule is judged: the agent's own are not, nor grants, which end by themselves, nor a venue's default deny,
/// which is there to be never met.
#[must_use]
pub fn is_judged(rule: &Rule) -> bool {
    !rule.is_from_agent() && !rule.is_default_deny() && rule.grant.is_none()
}

struct Look<'a> {
    policy: &'a Policy,
    ruleset: &'a Ruleset,
    inventory: &'a Inventory,
    nodes: BTreeSet<Party>,
    /// Days without a look, of the host that has most.
    missing_days: u64,
    since: u64,
    now: u64,
}

impl Look<'_> {
    fn judge(&self, rule: &Rule, of: &OfRule, report: &mut Report) {
        let named = named(rule);
        // A lane's end is a host's own network address: its host sees all of it.
        let is_lane = rule.section == Section::Venues;
        if !(is_lane || is_covered(self.ruleset, rule, self.inventory, &self.nodes)) {
            report.elsewhere.push(Elsewhere { rule: named, used: of.is_used() });
            return;
        }
        // A host that sees its use and did not know the rule, or had days without a look, may have missed it.
        let seeing = seeing(self.ruleset, rule, self.inventory, &self.nodes);
        let is_known = is_lane || seeing.is_subset(&of.known_by);
        let known = of.known_since.filter(|_| is_known).unwrap_or(self.now);
        if known > self.since || self.missing_days != 0 {
            let missing = if known > self.since { 0 } else { self.missing_days };
            let days = days(known, self.now).saturating_sub(missing);
            report.not_known.push(NotKnown { rule: named, days, used: of.is_used() });
            return;
        }
        if !of.is_used() {
            report.unused.push(named);
            return;
        }
        if of.is_unknown && rule.action == Action::Accept {
            let why = "it was used, by whom is not known".to_owned();
            report.kept.push(Kept { rule: named, why });
            return;
        }
        let used: Vec<_> = of.observed.iter().copied().collect();
        match narrow(self.policy, self.ruleset, rule, self.inventory, &used) {
            Narrowing::AsUsed => report.as_used += 1,
            Narrowing::Kept(why) => report.kept.push(Kept { rule: named, why: why.to_owned() }),
            Narrowing::Narrower { wider, text } => {
                report.wider.push(Wider { rule: named, last_used: date(of.last), wider, narrower: text });
            }
        }
    }
}

fn named(rule: &Rule) -> Named {
    Named {
        number: rule.number,
        name: rule.name.clone(),
        position: rule.location.as_ref().map(ToString::to_string),
        action: rule.action,
        record: rule.record.clone(),
    }
}

fn staged(question: &Question, inventory: &Inventory) -> Vec<Staged> {
    let rows = question.hosts.iter().flat_map(|host| &host.used);
    let rows = rows.filter(|used| used.what.verdict == Verdict::StagedDrops);
    let mut all: Vec<Staged> = rows
        .map(|used| {
            let title = |end: &End| match (&end.name, end.address) {
                (Some(name), _) => name.clone(),
                (None, Some(address)) => Party::of(inventory, None, address).title(inventory),
                (None, None) => "many".to_owned(),
            };
            Staged {
                source: title(&used.what.source),
                destination: title(&used.what.destination),
                protocol: name_of(used.what.protocol),
                port: Some(used.what.port).filter(|port| *port != 0 && has_ports(used.what.protocol)),
                packets: used.count,
                last: date(used.last),
            }
        })
        .collect();
    // Summaries of replies do not say which port they came from; packets of the other direction do.
    let with_port: BTreeSet<[String; 3]> =
        all.iter().filter(|one| one.port.is_some()).map(Staged::ends).collect();
    all.retain(|one| one.port.is_some() || !with_port.contains(&one.ends()));
    all.sort_by_key(|staged| std::cmp::Reverse(staged.packets));
    all
}
