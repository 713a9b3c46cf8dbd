//! What people sign who put a policy and an inventory in force.

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

const KIND: &str = "bulkhead-policy/v1";

/// The line of those who let it be in force in audit mode.
const AUDIT: &str = "mode: audit\n";

/// The SHA-256 of a policy's and an inventory's text, hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDigests {
    /// Of the policy.
    pub policy: String,
    /// Of the inventory.
    pub inventory: String,
    /// They may be in force in audit mode too, in which nothing is dropped.
    pub audit: bool,
}

impl PolicyDigests {
    /// Of these texts.
    #[must_use]
    pub fn of(policy: &str, inventory: &str) -> Self {
        let [policy, inventory] = [policy, inventory]
            .map(|text| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect());
        Self { policy, inventory, audit: false }
    }

    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let mode = if self.audit { AUDIT } else { "" };
        format!("{KIND}\npolicy: {}\ninventory: {}\n{mode}", self.policy, self.inventory)
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// If the text is another.
    pub fn parse(text: &str) -> Result<Self> {
        let problem = |line, problem: &str| Error::Text { line, problem: problem.to_owned() };
        let mut lines = text.lines();
        if lines.next() != Some(KIND) {
            return Err(problem(
                1,
                "the note is not over a policy: its text begins with `bulkhead-policy/v1`",
            ));
        }
        let mut digest = |line, field: &str| {
            let value = lines.next().and_then(|line| line.strip_prefix(field)?.strip_prefix(": "));
            let value =
                value.filter(|value| value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit()));
            value.map(str::to_owned).ok_or_else(|| problem(line, &format!("no `{field}: ` with a SHA-256")))
        };
        let (policy, inventory) = (digest(2, "policy")?, digest(3, "inventory")?);
        let audit = lines.next();
        if audit.is_some_and(|line| line != AUDIT.trim_end()) || lines.next().is_some() {
            return Err(problem(4, "the text goes on where it should end"));
        }
        Ok(Self { policy, inventory, audit: audit.is_some() })
    }
}
