//! Whether an identity's address is routed by one of its own keys.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::control::names;

/// Whether an address of an identity is routed by one of its keys has changed. While it is not, no rule counts for
/// the address, if `enforced` says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Binding {
    /// The node that has the address by the inventory.
    pub identity: String,
    /// The address.
    pub address: IpAddr,
    /// What holds now, such as `conflicting`.
    pub state: BindingState,
    /// The identity's keys by the inventory, in base64.
    pub expected: Vec<String>,
    /// The key that routes the address; none: nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// Whose key that is by the inventory, if it is another node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// The interface where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Whether the address is treated as one that nobody has while it is not bound.
    pub enforced: bool,
    /// Further addresses that changed at the same moment and have no event of their own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
    /// The generation that is enforced.
    pub generation: u32,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

names! {
    /// How an identity's address is routed.
    BindingState {
        /// By one of the identity's keys, and by nobody else's.
        Bound "bound",
        /// By a key that is not the identity's.
        Conflicting "conflicting",
        /// By nobody.
        Unbound "unbound",
        /// Nobody can tell: the identity has no key, or is where no keys are.
        Unproven "unproven",
    }
}
