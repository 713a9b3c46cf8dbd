//! Counters by rule over all generations: each generation's own are folded in when it is gone.

use std::collections::{BTreeMap, HashMap};

use bulkhead_abi::{Counter, TlsCounts};
use bulkhead_api::event::Rule;
use bulkhead_api::status::{RuleCount, TlsCount};
use bulkhead_dataplane::{Dataplane, Pins};
use bulkhead_policy::policy::Tls;
use serde::{Deserialize, Serialize};

/// The file in the state directory.
pub const FILE: &str = "rule-counters.json";

/// What earlier generations counted, by the rule's fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// Generations that are in here already, as long as their pins may be found again.
    generations: Vec<u32>,
    rules: BTreeMap<String, (u64, u64)>,
    /// Flows that began as TLS, that did not, and of which it is not known.
    #[serde(default)]
    tls: BTreeMap<String, [u64; 3]>,
}

impl Folded {
    /// Adds the counters of a generation that no hook runs any more.
    pub fn fold(
        &mut self,
        generation: u32,
        fingerprints: &[String],
        (counters, beginnings): (&[Counter], &[TlsCounts]),
    ) {
        if self.generations.contains(&generation) {
            return;
        }
        self.generations.push(generation);
        for (fingerprint, counter) in fingerprints.iter().zip(counters) {
            if counter.packets != 0 {
                let (packets, bytes) = self.rules.entry(fingerprint.clone()).or_default();
                *packets += counter.packets;
                *bytes += counter.bytes;
            }
        }
        for (fingerprint, counts) in fingerprints.iter().zip(beginnings) {
            if *counts != TlsCounts::default() {
                let [began, plaintext, unverified] = self.tls.entry(fingerprint.clone()).or_default();
                *began += counts.began;
                *plaintext += counts.plaintext;
                *unverified += counts.unverified;
            }
        }
    }

    /// Forgets rules that are in neither of these lists, and generations that are gone.
    pub fn keep(&mut self, fingerprints: &[&[String]], pinned: &[u32]) {
        let known: std::collections::HashSet<&String> = fingerprints.iter().copied().flatten().collect();
        self.rules.retain(|fingerprint, _| known.contains(fingerprint));
        self.tls.retain(|fingerprint, _| known.contains(fingerprint));
        self.generations.retain(|generation| pinned.contains(generation));
    }

    /// The counters of every rule of the generation that runs, in the policy's order.
    pub fn read(
        &self,
        plane: &impl Dataplane,
        pins: &Pins,
        generation: u32,
        fingerprints: &[String],
        rules: &[Rule],
        tls: &BTreeMap<u32, Tls>,
    ) -> anyhow::Result<Vec<RuleCount>> {
        let counters = plane.rule_counters(pins, generation, rules.len())?;
        // Of rules none of which asks for TLS there is nothing to read.
        let beginnings = match tls.is_empty() {
            true => Vec::new(),
            false => plane.tls_counters(pins, generation, rules.len())?,
        };
        Ok(self.sum(fingerprints, rules, (&counters, &beginnings), tls))
    }

    fn sum(
        &self,
        fingerprints: &[String],
        rules: &[Rule],
        (counters, beginnings): (&[Counter], &[TlsCounts]),
        tls: &BTreeMap<u32, Tls>,
    ) -> Vec<RuleCount> {
        let mut by_number: HashMap<u32, RuleCount> = HashMap::new();
        let beginnings = beginnings.iter().copied().chain(std::iter::repeat(TlsCounts::default()));
        let counters = counters.iter().zip(beginnings);
        for ((fingerprint, rule), (counter, beginning)) in fingerprints.iter().zip(rules).zip(counters) {
            let (packets, bytes) = self.rules.get(fingerprint).copied().unwrap_or_default();
            // A venue's lane may be in both sets of tables, the overlay's and the exchange interfaces'.
            let count = by_number.entry(rule.number).or_insert_with(|| RuleCount {
                rule: rule.clone(),
                packets: 0,
                bytes: 0,
                tls: tls.get(&rule.number).map(nothing),
            });
            count.packets += packets + counter.packets;
            count.bytes += bytes + counter.bytes;
            if let Some(count) = &mut count.tls {
                let [began, plaintext, unverified] = self.tls.get(fingerprint).copied().unwrap_or_default();
                count.began += began + beginning.began;
                count.plaintext += plaintext + beginning.plaintext;
                count.unverified += unverified + beginning.unverified;
            }
        }
        let mut counts: Vec<_> = by_number.into_values().collect();
        counts.sort_by_key(|count| count.rule.number);
        counts
    }
}

/// No flow has begun yet.
fn nothing(tls: &Tls) -> TlsCount {
    TlsCount {
        mode: tls.mode.name().to_owned(),
        starttls: tls.starttls.map(|starttls| starttls.name().to_owned()),
        began: 0,
        plaintext: 0,
        unverified: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bulkhead_abi::{Counter, TlsCounts};
    use bulkhead_policy::policy::{Tls, TlsMode};

    use super::{Folded, Rule};

    fn names(numbers: &[u32]) -> Vec<Rule> {
        numbers.iter().map(|number| Rule::plain(*number, None, None)).collect()
    }

    fn counter(packets: u64) -> Counter {
        Counter { packets, bytes: packets * 100 }
    }

    #[test]
    fn counts_follow_the_rule_and_not_its_number() {
        let mut folded = Folded::default();
        let (a, b, c) = ("a".to_owned(), "b".to_owned(), "c".to_owned());
        folded.fold(1, &[a.clone(), b.clone()], (&[counter(5), counter(7)], &[]));
        // A crash between folding and freeing: the same generation again.
        folded.fold(1, &[a.clone(), b.clone()], (&[counter(5), counter(7)], &[]));
        let none = BTreeMap::new();
        let now =
            folded.sum(&[b.clone(), c.clone()], &names(&[1, 2]), (&[counter(1), counter(2)], &[]), &none);
        let packets: Vec<_> =
            now.iter().map(|count| (count.rule.number, count.packets, count.bytes)).collect();
        assert_eq!(packets, [(1, 8, 800), (2, 2, 200)]);
        folded.keep(&[&[b.clone(), c]], &[]);
        folded.fold(1, &[a], (&[counter(1)], &[]));
        let back = folded.sum(&["a".to_owned()], &names(&[1]), (&[counter(0)], &[]), &none);
        assert_eq!(back[0].packets, 1, "a rule that was gone starts anew");
    }

    #[test]
    fn how_flows_began_follows_the_rule_as_well() {
        let mut folded = Folded::default();
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let counts = |began| TlsCounts { began, plaintext: 1, unverified: 0 };
        folded.fold(1, &[a.clone(), b.clone()], (&[counter(5), counter(7)], &[counts(3), counts(0)]));
        let tls = BTreeMap::from([(2, Tls { mode: TlsMode::Required, starttls: None })]);
        let now =
            folded.sum(&[b, a], &names(&[1, 2]), (&[counter(0), counter(0)], &[counts(9), counts(4)]), &tls);
        assert_eq!(now[0].tls, None, "it asks for nothing");
        let count = now[1].tls.as_ref().unwrap();
        assert_eq!((&*count.mode, count.began, count.plaintext, count.unverified), ("required", 7, 2, 0));
    }
}
