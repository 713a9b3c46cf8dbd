//! Entries of the kernel's tables that are not what was approved.

use serde::{Deserialize, Serialize};

/// An entry of the running tables, or a program on a hook, that is not what a fresh compile of the recorded files
/// gives. The event's time is that of the look that found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Altered {
    /// The generation that was looked at.
    pub generation: u32,
    /// The table's name in the kernel, or `program`.
    pub table: String,
    /// Which entry of it: a number, an address or a prefix; of a program its hook.
    pub entry: String,
    /// `ingress` or `egress`, where it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// From whom, where it is of one source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Ports and protocol, as in `22/tcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// How many other pairs of ends, or addresses, it decides as well.
    pub others: u64,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
    /// How many entries more differ, of which no event tells; in the last event of a look.
    #[serde(default)]
    pub omitted: u64,
}
