//! What the history and the policy know.

use bulkhead_history::answer::drift;
use serde::Serialize;

use super::Source;

/// Who talks to whom.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Matrix {
    /// Where it is from.
    pub source: Source,
    /// The first day that all histories know, UTC; absent: one knows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_since: Option<String>,
    /// Days of the time without a look, of the history that has most.
    pub missing_days: u64,
    /// What a row or column is.
    pub by: Grouping,
    /// Who began.
    pub sources: Vec<String>,
    /// With whom.
    pub destinations: Vec<String>,
    /// Those that were seen.
    pub cells: Vec<Cell>,
}

/// What rows and columns stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grouping {
    /// A node, or an address that no node has.
    #[default]
    Node,
    /// All nodes of a tag or a user: nodes are too many for a table.
    Tag,
}

/// From one to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Who began: an index into the sources.
    pub source: usize,
    /// With whom: an index into the destinations.
    pub destination: usize,
    /// Looks at the table of flows in which a rule admitted a conversation of theirs.
    pub admitted: u64,
    /// Looks in which audit mode let one pass.
    pub audited: u64,
    /// Packets that the policy dropped.
    pub dropped: u64,
    /// Packets that audit mode let pass.
    pub would_drop: u64,
    /// Ports and protocols of conversations, `443/tcp`, the first of them.
    pub ports: Vec<String>,
    /// How many more there are.
    pub more_ports: usize,
}

/// The rules.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rules {
    /// Where their use is from.
    pub source: Source,
    /// In their order.
    pub rules: Vec<RuleLine>,
}

/// A rule, who answers for it, and its use.
#[derive(Clone, Debug, Serialize)]
pub struct RuleLine {
    /// Its number in the policy.
    pub number: u32,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// File, line and column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Whether it admits; else it denies.
    pub admits: bool,
    /// As it is written; absent for lanes of venues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last day on which it is to be reviewed, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review_by: Option<String>,
    /// That day is over.
    pub is_overdue: bool,
    /// The day on which it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// How it stands to its use.
    pub standing: Standing,
    /// Its use.
    pub used: UseOfRule,
    /// Why it stands so, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Where it is wider than its use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wider: Vec<Side>,
    /// The rules in its place, HuJSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub narrower: Option<String>,
}

/// How a rule stands to its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is no wider than its use.
    AsUsed,
    /// Nobody used it in all the time.
    Unused,
    /// It is wider than its use.
    Wider,
    /// It was used, and cannot be said more narrowly.
    Kept,
    /// It is not known for all the time.
    NotKnown,
    /// Other hosts see use of it whose history was not read.
    Elsewhere,
}

/// Use of a rule, as far as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UseOfRule {
    /// Looks in which it admitted conversations.
    pub looks: u64,
    /// Packets that it denied.
    pub packets: u64,
    /// The day of the last, UTC; absent: none was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// A side of a rule that is wider than its use.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// `sources`, `destinations` or `ports`.
    pub what: String,
    /// How many of it there are.
    pub has: usize,
    /// Those that were used.
    pub used: Vec<String>,
}

/// What passed, and only a staged policy would have stopped.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Staged {
    /// Where it is from.
    pub source: Source,
    /// Most packets first.
    pub lines: Vec<drift::Staged>,
}
