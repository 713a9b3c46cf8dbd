//! Rules whose review is overdue.

use crate::frontend::diagnostic::{Diagnostic, Findings};
use crate::frontend::policy::Policy;

/// Warns of each rule whose `reviewBy` is past at a time (ns since the Unix epoch). It is enforced all the same.
pub(crate) fn check(policy: &Policy, now: u64, findings: &mut Findings) {
    for rule in policy.acls.iter().chain(&policy.grants).flatten().filter(|rule| rule.record.is_overdue(now))
    {
        let Some(day) = &rule.record.review_by else { continue };
        let message = format!("its review was due by {}", day.value);
        let owner = rule
            .record
            .owner
            .as_ref()
            .map(|owner| format!("ask {owner} whether it is still needed, then set a later day"));
        let help = owner.unwrap_or_else(|| "see whether it is still needed, then set a later day".to_owned());
        findings.push(Diagnostic::warning(&policy.source, day.span, message).help(help));
    }
}
