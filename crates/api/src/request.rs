//! Requests: what the agent is asked to do, and its answers. What `apply` and `stage` ask for is in
//! [`crate::change`].

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};

use crate::history::Summary;
use crate::hook::Attached;
use crate::mode::Mode;
use crate::session::Session;

/// Reads the JSON of a request.
///
/// # Errors
/// If it is not understood. A list is not: it would be taken for an object all of whose fields are left out.
pub fn read<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    if json.trim_ascii_start().first() == Some(&b'[') {
        return Err(serde_json::Error::custom("it is a list; send an object"));
    }
    serde_json::from_slice(json)
}

/// Enforce the staged policy.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    /// Enforce or audit; none: as now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Seconds to confirm within; none: it stays.
    #[serde(default)]
    pub within: Option<u64>,
    /// The session that it must not cut; none: whatever it cuts is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// Keep what waits for its confirmation.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Confirmation {
    /// The generation that is meant: another one is refused; none: whatever waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
}

/// Return to what was enforced before.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Rollback {
    /// The generation to return to, of those whose files are kept; none: the previous one.
    pub to: Option<u32>,
    /// Seconds to confirm within; none: it stays.
    pub within: Option<u64>,
    /// The session that it must not cut; none: whatever it cuts is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// What came of a change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Applied {
    /// Whether it is in force.
    pub applied: bool,
    /// Whether it was only asked what it would change.
    #[serde(default)]
    pub dry_run: bool,
    /// The generation that is enforced now.
    pub generation: u32,
    /// `enforce` or `audit`.
    pub mode: Mode,
    /// Rules that matter to the node.
    pub rules: usize,
    /// Seconds left to confirm.
    pub confirm_within: Option<u64>,
    /// What it changes of what was enforced until then, or would change.
    #[serde(default)]
    pub difference: Summary,
    /// What else the operator should know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What is wrong with the files, one object each.
    pub findings: Vec<serde_json::Value>,
    /// The same for people.
    pub text: String,
}

/// What came of `attach`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttachAnswer {
    /// What is attached, if the interface is enforced.
    pub attached: Option<Attached>,
    /// The generation that is enforced.
    pub generation: u32,
}

/// Watch events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// Say in the header `bulkhead-records` how many records the event log has of what was before the first event: the
    /// rest is told here. Absent if the log has not got it all within 5 s.
    pub records: bool,
}

/// The header that [`Watch::records`] asks for.
pub const RECORDS: &str = "bulkhead-records";
