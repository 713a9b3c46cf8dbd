//! On which terms a flow is admitted: how much of it a second, and whether replies pass.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::frontend::policy::Rates;
use crate::resolve::{Rule, Ruleset};

/// The limits of whatever admits a flow, on all hosts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Terms {
    /// Packets a second at most.
    #[serde(rename = "maxPacketsPerSecond", skip_serializing_if = "Option::is_none")]
    pub packets: Option<u32>,
    /// Flows that begin a second at most.
    #[serde(rename = "maxNewPerSecond", skip_serializing_if = "Option::is_none")]
    pub new_flows: Option<u32>,
    /// No reply passes.
    #[serde(rename = "oneWay", skip_serializing_if = "std::ops::Not::not")]
    pub one_way: bool,
}

/// Of two limits, none of which may be there, the narrower.
fn narrower(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    a.into_iter().chain(b).min()
}

/// Whether a limit lets more pass than another.
fn is_wider(before: Option<u32>, after: Option<u32>) -> bool {
    before.is_some_and(|before| after.is_none_or(|after| after > before))
}

impl Terms {
    pub(super) fn of(rule: &Rule) -> Self {
        let Rates { packets, new_flows } = rule.rates;
        Self { packets, new_flows, one_way: rule.one_way }
    }

    /// What passes on both of two hosts.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            packets: narrower(self.packets, other.packets),
            new_flows: narrower(self.new_flows, other.new_flows),
            one_way: self.one_way || other.one_way,
        }
    }

    fn is_limited(self) -> bool {
        self.packets.is_some() || self.new_flows.is_some()
    }

    /// Whether these terms let anything pass that `before` did not.
    #[must_use]
    pub fn widen(self, before: Self) -> bool {
        is_wider(before.packets, self.packets)
            || is_wider(before.new_flows, self.new_flows)
            || (before.one_way && !self.one_way)
    }
}

/// A limit that several rules have now, where one had it: each counts for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Apart {
    /// The rule that had it, by name or number.
    pub rule: String,
    /// What it admitted a second.
    #[serde(flatten)]
    pub terms: Terms,
    /// The rules that admit the same now, each so much.
    pub now: Vec<String>,
}

/// Which rules after the change admit what a limited rule admitted before it.
#[derive(Default)]
pub(super) struct Heirs(BTreeMap<u32, BTreeSet<u32>>);

impl Heirs {
    /// A flow that one rule admitted and the other admits.
    pub(super) fn add(&mut self, rulesets: &[&Ruleset; 2], old: u32, new: u32) {
        let limited = |side: usize, rule: u32| Terms::of(&rulesets[side].rules[rule as usize]).is_limited();
        if limited(0, old) && limited(1, new) {
            self.0.entry(old).or_default().insert(new);
        }
    }

    pub(super) fn apart(&self, rulesets: &[&Ruleset; 2]) -> Vec<Apart> {
        let title = |side: usize, rule: u32| rulesets[side].rules[rule as usize].title();
        let several = self.0.iter().filter(|(_, heirs)| heirs.len() > 1);
        let apart = several.map(|(rule, heirs)| Apart {
            rule: title(0, *rule),
            terms: Terms::of(&rulesets[0].rules[*rule as usize]),
            now: heirs.iter().map(|heir| title(1, *heir)).collect(),
        });
        apart.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_widen_by_any_of_their_parts() {
        let terms = |packets, new_flows, one_way| Terms { packets, new_flows, one_way };
        let limited = terms(Some(10), Some(5), true);
        for wider in [
            terms(Some(11), Some(5), true),
            terms(None, Some(5), true),
            terms(Some(9), Some(6), true),
            terms(Some(10), Some(5), false),
        ] {
            assert!(wider.widen(limited), "{wider:?}");
        }
        assert!(!limited.widen(limited) && !terms(Some(1), Some(1), true).widen(limited));
        assert!(!limited.widen(Terms::default()));
        assert_eq!(
            terms(None, Some(3), false).and(terms(Some(4), Some(9), true)),
            terms(Some(4), Some(3), true)
        );
    }
}
