//! Flows as rules let them begin.

use serde::{Deserialize, Serialize};

use super::Drop;

/// A rule has let a flow begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Allowed {
    /// Its first packet, which passed. The reason is `rule`.
    #[serde(flatten)]
    pub first: Drop,
    /// One of so many flows is told of, at random; 1: each.
    pub one_in: u32,
}
