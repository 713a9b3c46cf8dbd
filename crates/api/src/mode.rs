//! Whether what the policy does not admit is dropped.

use serde::{Deserialize, Serialize};

/// What happens to packets that the policy does not admit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are dropped.
    #[default]
    Enforce,
    /// They are reported and pass.
    Audit,
}

impl Mode {
    /// Its name, as in status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}
