//! Times without enforcement.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A time in which an interface, or the guard, was not as the policy needs it. The event's time is its end, when
/// the kernel says that all is well again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unenforced {
    /// The interface, or `guard`.
    pub interface: String,
    /// Since when at the earliest: the last time that the kernel said it was enforced.
    pub since: Timestamp,
    /// How long, milliseconds.
    pub milliseconds: u64,
    /// What was found.
    pub cause: String,
    /// What became of packets: `none`, `closed` or `open`.
    pub effect: Effect,
    /// The generation that is enforced.
    pub generation: u32,
    /// Whether an agent ran all the time.
    pub agent: bool,
}

/// What became of packets while an interface was not enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The programs judged them all the same.
    None,
    /// The guard dropped them.
    Closed,
    /// They may have passed unjudged.
    Open,
}
