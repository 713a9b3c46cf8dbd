//! Grants that run → rules, after all others.

use super::Rule;
use super::resolver::Resolver;
use crate::frontend::diagnostic::Location;

/// Where their numbers begin: they come and go, and renumber no other rule.
pub(super) const FIRST: u32 = 1_000_001;

/// Whether a rule of that number is a grant.
#[must_use]
pub const fn is_grant(number: u32) -> bool {
    number >= FIRST
}

impl Resolver<'_> {
    /// The rules of `granted`.
    ///
    /// They come last: a grant opens what no rule decides, and nothing that any rule denies.
    pub(super) fn granted(&mut self) -> Vec<Rule> {
        let policy = self.policy;
        let rule = |(number, rule): (u32, &crate::frontend::policy::Rule)| Rule {
            name: rule.name.as_ref().map(|name| name.value.clone()),
            location: Some(Location::new(&policy.source, rule.span)),
            expires: rule.expires.as_ref().map(|time| time.value),
            record: rule.record.clone(),
            grant: rule.grant.clone(),
            blocks: self.blocks(rule, None),
            ..Rule::plain(number, rule.section, rule.action)
        };
        (FIRST..).zip(&policy.granted).map(rule).collect()
    }
}
