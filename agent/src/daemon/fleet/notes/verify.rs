//! Whether an order counts under a policy.

use bulkhead_grants::{Note, Order, OrderKind};
use bulkhead_policy::policy::Policy;

/// How many people revoke a grant: whoever may approve any takes access away, which is on the safe side.
const REVOKE: usize = 1;

/// Who of those who may has signed an order.
///
/// # Errors
/// Why it does not count.
pub fn signers(note: &Note, order: &Order, policy: &Policy) -> Result<Vec<String>, String> {
    let people = policy.people().map_err(|error| error.to_string())?;
    if people.all().is_empty() {
        return Err(format!("the policy has no approvers, so nobody may sign a {}", order.kind.name()));
    }
    let by = policy.quarantine.people();
    let (need, by) = match order.kind {
        OrderKind::Revocation => (REVOKE, None),
        OrderKind::Quarantine | OrderKind::Release => (policy.quarantine.approvals as usize, by.as_deref()),
    };
    people.quorum(note, need, by, None).map_err(|error| error.to_string())
}
