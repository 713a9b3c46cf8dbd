//! What was put in force, when, by whom, and what that changed.

use serde::{Deserialize, Serialize};

use crate::event::{Action, Actor};
use crate::mode::Mode;

/// What a change adds (`+`), removes (`-`) and admits on other terms (`~`), a line each, as `bulkhead diff` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Difference"))]
pub struct Summary {
    /// The first lines.
    pub lines: Vec<String>,
    /// How many more there are.
    #[serde(default)]
    pub more: usize,
}

/// How files came to be in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Origin {
    /// What was done.
    pub action: Action,
    /// Who asked for it.
    pub by: Actor,
    /// When, ns since the Unix epoch by the wall clock.
    pub time: u64,
    /// What it changed of what was enforced until then.
    pub difference: Summary,
}

/// What has become of what was put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is enforced.
    Enforced,
    /// It is enforced, and goes unless it is confirmed.
    Unconfirmed,
    /// `rollback` returns to it.
    Previous,
    /// It was given up before it was confirmed: `rollback N` returns to it, `rollback` never does.
    Lapsed,
    /// Its files are kept: `rollback N` returns to it.
    Kept,
}

/// One change, with files that are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "HistoryEntry"))]
pub struct Entry {
    /// The generation that was last built from its files, by which `rollback N` names it.
    pub generation: u32,
    /// What has become of it.
    pub standing: Standing,
    /// When it was put in force, RFC 3339 in UTC.
    pub applied: String,
    /// How.
    pub origin: Origin,
    /// `enforce` or `audit`.
    pub mode: Mode,
    /// The policy's name.
    pub policy: String,
    /// The inventory's name.
    pub inventory: String,
    /// SHA-256 of the policy file, hexadecimal.
    pub policy_sha256: String,
    /// SHA-256 of the inventory file, hexadecimal.
    pub inventory_sha256: String,
}
