//! Requests: what the agent is asked to do, and its answers. What `apply` and `stage` ask for is in
//! [`crate::change`].

use serde::{Deserialize, Serialize};

use crate::hook::Attached;
use crate::mode::Mode;

/// Whether a change is to be confirmed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// Seconds to confirm within; none: it stays.
    pub within: Option<u64>,
}

/// What came of a change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Applied {
    /// Whether it is in force.
    pub applied: bool,
    /// The generation that is enforced now.
    pub generation: u32,
    /// `enforce` or `audit`.
    pub mode: Mode,
    /// Rules that matter to the node.
    pub rules: usize,
    /// Seconds left to confirm.
    pub confirm_within: Option<u64>,
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
