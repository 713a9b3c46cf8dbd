//! How a fleet stands: what is wrong with which node.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::finding::Findings;
use crate::node::Heard;
use crate::report::{Denied, State};

/// How one node stands. The one without a name is whatever came from nobody that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Its name.
    pub node: String,
    /// Records that are here.
    pub records: u64,
    /// Its last report; none: there was none.
    pub heard: Option<Heard>,
    /// What is wrong with what came from it.
    pub findings: Findings,
}

/// When a node is told of.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Seconds without a report.
    pub silent_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { silent_seconds: 300 }
    }
}

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Its log, or its key, is not what it was.
    Evidence,
    /// It is not enforced.
    Unenforced,
    /// It has gone back from a policy.
    RolledBack,
    /// It does not take what the fleet has.
    Refused,
    /// It was not heard of for too long.
    Silent,
    /// It enforces another policy or inventory than the newest that any node has.
    Behind,
}

impl Trouble {
    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Unenforced => "unenforced",
            Self::RolledBack => "rolled back",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Behind => "behind",
        }
    }
}

/// A node, with what is wrong with it.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
    /// What is wrong, the worst first, each in words.
    pub troubles: Vec<(Trouble, String)>,
    /// Seconds since it was heard of last; none: it never was.
    pub heard_seconds: Option<u64>,
}

/// A digest, and how many nodes enforce it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// The version, if it is from the fleet.
    pub version: Option<u64>,
    /// SHA-256, hexadecimal; none: not known.
    pub sha256: Option<String>,
    /// Nodes.
    pub nodes: u64,
}

/// A whole fleet.
#[derive(Clone, Debug, Serialize)]
pub struct Fleet {
    /// When, ns since 1970.
    pub time: u64,
    /// All nodes, by their names.
    pub nodes: Vec<Judged>,
    /// Policies that are enforced, the most used first.
    pub policies: Vec<Digest>,
    /// The same of inventories.
    pub inventories: Vec<Digest>,
    /// Nodes by what is enforced there.
    pub states: BTreeMap<&'static str, u64>,
    /// Drops of all nodes, the most first.
    pub denied: Vec<(Denied, u64)>,
    /// Records that are here.
    pub records: u64,
}

impl Fleet {
    /// Judges nodes at a time, ns since 1970.
    #[must_use]
    pub fn judge(standings: Vec<Standing>, now: u64, limits: Limits) -> Self {
        let newest = |of: fn(&Heard) -> Option<u64>| {
            standings.iter().filter_map(|standing| of(standing.heard.as_ref()?)).max()
        };
        let policy = newest(|heard| heard.report.policy.version);
        let inventory = newest(|heard| heard.report.inventory.version);
        let mut states = BTreeMap::new();
        let mut denied: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
        for heard in standings.iter().filter_map(|standing| standing.heard.as_ref()) {
            *states.entry(heard.report.state.name()).or_insert(0) += 1;
            for of in &heard.report.denied {
                let sum = denied.entry((of.reason.clone(), of.direction.clone())).or_default();
                *sum = (sum.0.saturating_add(of.packets), sum.1 + 1);
            }
        }
        let policies =
            digests(standings.iter().filter_map(|at| at.heard.as_ref()).map(|at| &at.report.policy));
        let inventories =
            digests(standings.iter().filter_map(|at| at.heard.as_ref()).map(|at| &at.report.inventory));
        let mut denied: Vec<(Denied, u64)> = denied
            .into_iter()
            .map(|((reason, direction), (packets, nodes))| (Denied { direction, reason, packets }, nodes))
            .collect();
        denied.sort_by_key(|(of, _)| std::cmp::Reverse(of.packets));
        denied.truncate(32);
        let records = standings.iter().map(|standing| standing.records).fold(0, u64::saturating_add);
        let judge = |standing| judged(standing, now, limits, (policy, inventory));
        Self {
            time: now,
            nodes: standings.into_iter().map(judge).collect(),
            policies,
            inventories,
            states,
            denied,
            records,
        }
    }

    /// Whether nothing is wrong with any node.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.nodes.iter().all(|node| node.troubles.is_empty())
    }
}

fn digests<'b>(bundles: impl Iterator<Item = &'b crate::report::Bundle>) -> Vec<Digest> {
    let mut all: BTreeMap<_, u64> = BTreeMap::new();
    for bundle in bundles {
        *all.entry((bundle.version, bundle.sha256.clone())).or_default() += 1;
    }
    let digest = |((version, sha256), nodes)| Digest { version, sha256, nodes };
    let mut all: Vec<Digest> = all.into_iter().map(digest).collect();
    all.sort_by_key(|digest| std::cmp::Reverse(digest.nodes));
    all.truncate(32);
    all
}

fn judged(standing: Standing, now: u64, limits: Limits, newest: (Option<u64>, Option<u64>)) -> Judged {
    let mut troubles = Vec::new();
    for (kind, finding) in &standing.findings {
        let times = if finding.count == 1 { String::new() } else { format!(", {} times", finding.count) };
        troubles.push((Trouble::Evidence, format!("{}{times}: {}", kind.name(), finding.detail)));
    }
    let mut heard_seconds = None;
    if let Some(heard) = &standing.heard {
        let report = &heard.report;
        if report.state != State::Enforced {
            let gaps =
                if report.gaps.is_empty() { String::new() } else { format!(": {}", report.gaps.join("; ")) };
            troubles.push((Trouble::Unenforced, format!("{}{gaps}", report.state.name())));
        }
        if let Some(version) = report.rolled_back {
            troubles.push((Trouble::RolledBack, format!("from policy version {version}")));
        }
        if let Some(refusal) = &report.refusal {
            troubles.push((Trouble::Refused, refusal.clone()));
        }
        let seconds = now.saturating_sub(heard.heard) / 1_000_000_000;
        heard_seconds = Some(seconds);
        if seconds > limits.silent_seconds {
            troubles.push((Trouble::Silent, format!("for {seconds} s")));
        }
        for (what, has, newest) in
            [("policy", report.policy.version, newest.0), ("inventory", report.inventory.version, newest.1)]
        {
            if let Some(newest) = newest.filter(|newest| has.is_none_or(|has| has < *newest)) {
                let has =
                    has.map_or_else(|| "none of the fleet's".to_owned(), |has| format!("version {has}"));
                troubles.push((Trouble::Behind, format!("{what}: {has}, the newest is {newest}")));
            }
        }
    } else if !standing.node.is_empty() {
        troubles.push((Trouble::Silent, "never heard of".to_owned()));
    }
    troubles.sort_by_key(|(trouble, _)| *trouble);
    Judged { standing, troubles, heard_seconds }
}
