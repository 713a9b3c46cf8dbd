//! That events are not in the event log.

use serde::{Deserialize, Serialize};

/// Events that the event log has not got, told of in the log itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LostEvents {
    /// How many; absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// The drops that they told of; absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<u64>,
    /// Why.
    pub cause: LostCause,
    /// What was found, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Why events are not in the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LostCause {
    /// The log's queue had no room: the disk was slow or hung.
    Overflow,
    /// The disk refused them, such as a full one.
    Refused,
    /// The log on disk was damaged or altered and is set aside: a new one begins.
    SetAside,
    /// The machine stopped before they were on the disk.
    Crash,
}

impl LostCause {
    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Refused => "refused",
            Self::SetAside => "set_aside",
            Self::Crash => "crash",
        }
    }
}
