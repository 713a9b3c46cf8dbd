//! What a collector has found wrong with what came from a node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::cut;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The node's log key has signed another log than the one that is here.
    Fork,
    /// The node's log has fewer records than it had.
    Rollback,
    /// Records are missing between what is here and what came.
    Gap,
    /// Records are not those that their checkpoint was signed over.
    Altered,
    /// Another key has signed than the one that is known of the node.
    OtherKey,
    /// It is of a log by another name.
    OtherLog,
    /// It came as one node's, and says that it is another's.
    OtherNode,
    /// The node is not known, and no more are taken in.
    UnknownNode,
    /// It is no batch, or not as it was signed.
    Malformed,
    /// The collector cannot read or keep what it has of the node, or cannot use the node's directory of batches.
    Failed,
    /// It has sent more than a node may send in a day.
    TooMuch,
}

impl FindingKind {
    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Rollback => "rollback",
            Self::Gap => "gap",
            Self::Altered => "altered",
            Self::OtherKey => "other_key",
            Self::OtherLog => "other_log",
            Self::OtherNode => "other_node",
            Self::UnknownNode => "unknown_node",
            Self::Malformed => "malformed",
            Self::Failed => "failed",
            Self::TooMuch => "too_much",
        }
    }
}

/// One kind of what is wrong with a node, since somebody has acknowledged it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How often.
    pub count: u64,
    /// When first, ns since 1970.
    pub first: u64,
    /// When last.
    pub last: u64,
    /// In words, of the last time.
    pub detail: String,
}

/// All that is wrong with a node.
pub type Findings = BTreeMap<FindingKind, Finding>;

/// Notes one.
pub(crate) fn note(findings: &mut Findings, kind: FindingKind, now: u64, mut detail: String) {
    cut(&mut detail);
    let finding =
        findings.entry(kind).or_insert(Finding { count: 0, first: now, last: now, detail: String::new() });
    finding.count = finding.count.saturating_add(1);
    (finding.last, finding.detail) = (now, detail);
}
