//! On which terms a flow is admitted: how much of it a second, and whether replies pass.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::frontend::policy::{Rates, Tls, TlsMode};
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
    /// How it has to begin.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Of two rules' demands, the stronger: what begins otherwise is dropped by one of them.
fn stronger(a: Option<Tls>, b: Option<Tls>) -> Option<Tls> {
    a.into_iter().chain(b).max_by_key(|tls| (tls.mode, tls.starttls.is_none()))
}

/// Whether a demand lets something begin that another did not.
fn is_weaker(before: Option<Tls>, after: Option<Tls>) -> bool {
    let required = |tls: Option<Tls>| tls.filter(|tls| tls.mode == TlsMode::Required);
    match (required(before), required(after)) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(before), Some(after)) => after.starttls.is_some() && after.starttls != before.starttls,
    }
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
        Self { packets, new_flows, one_way: rule.one_way, tls: rule.tls }
    }

    /// What passes on both of two hosts.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            packets: narrower(self.packets, other.packets),
            new_flows: narrower(self.new_flows, other.new_flows),
            one_way: self.one_way || other.one_way,
            tls: stronger(self.tls, other.tls),
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
            || is_weaker(before.tls, self.tls)
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
    use crate::frontend::policy::Starttls;

    #[test]
    fn terms_widen_by_any_of_their_parts() {
        let terms = |packets, new_flows, one_way| Terms { packets, new_flows, one_way, tls: None };
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

    #[test]
    fn less_tls_is_wider() {
        let tls = |mode, starttls| Terms { tls: Some(Tls { mode, starttls }), ..Terms::default() };
        let (required, observed) = (tls(TlsMode::Required, None), tls(TlsMode::Observe, None));
        let postgres = tls(TlsMode::Required, Some(Starttls::Postgres));
        for wider in [observed, Terms::default(), postgres] {
            assert!(wider.widen(required), "{wider:?}");
        }
        for (before, after) in [(observed, Terms::default()), (observed, required), (postgres, required)] {
            assert!(!after.widen(before), "{before:?} {after:?}");
        }
        assert_eq!(required.and(observed), required);
        assert_eq!(Terms::default().and(observed), observed);
    }
}
