//! The two repositories, and where their files are below a fleet directory.

use std::fmt;

/// A repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repository {
    /// Policies, signed by people.
    Policy,
    /// Inventories, signed by the enroller.
    Inventory,
}

impl Repository {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Policy, Self::Inventory];

    /// Its name, which is also its directory's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Inventory => "inventory",
        }
    }

    /// The one target that it has.
    #[must_use]
    pub const fn target(self) -> &'static str {
        match self {
            Self::Policy => "policy.hujson",
            Self::Inventory => "inventory.json",
        }
    }

    /// Where a bundle is, below the fleet directory; `digest` is its SHA-256, hexadecimal.
    #[must_use]
    pub fn bundle(self, digest: &str) -> String {
        format!("{}/targets/{digest}.{}", self.name(), self.target())
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
