//! That enforcement was on, over a closed interval.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::hook::Hook;
use crate::mode::Mode;

/// What was on every hook at the start and at the end of an interval, and what was not enforced in between. The
/// event's time is its end. Intervals of one agent follow each other without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Coverage {
    /// The interval's start: the end of the one before, or the start of the agent.
    pub since: Timestamp,
    /// Every managed interface was enforced, or not there, all the time, by the kernel's word at each look; no
    /// read-back of the tables found a difference, and nobody has set the wall clock back.
    pub whole: bool,
    /// At the start.
    pub at_start: Covered,
    /// At the end; absent if it is as it was at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_end: Option<Covered>,
    /// Nanoseconds without enforcement within the interval, by interface, and of the `guard`; those with none are
    /// not named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unenforced: BTreeMap<String, u64>,
    /// How often the kernel was asked what is on the hooks.
    pub looks: u64,
    /// The longest time between two of these looks, ns.
    pub longest_look: u64,
    /// The last time that the tables were read back, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_back: Option<ReadBack>,
}

/// What enforced at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Covered {
    /// The generation that is enforced; 0: none.
    pub generation: u32,
    /// Enforce or audit.
    pub mode: Mode,
    /// SHA-256 of its policy file, hexadecimal; absent if it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// SHA-256 of its inventory file, hexadecimal; absent if it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<String>,
    /// The programs on the hooks, as the kernel says.
    pub hooks: Vec<CoveredHook>,
    /// Managed interfaces that are not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// Identities that are cut off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<String>,
}

/// A program on a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CoveredHook {
    /// The interface.
    pub interface: String,
    /// The hook.
    pub hook: Hook,
    /// The program's number.
    pub program: u32,
    /// The program's tag: the first 8 bytes of a SHA-1 of its instructions, hexadecimal (`bpf_prog_calc_tag`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// What a read-back of the tables has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadBack {
    /// When it ended.
    pub time: Timestamp,
    /// The generation that was read.
    pub generation: u32,
    /// Cells that are not as the recorded files have them.
    pub differences: u64,
}
