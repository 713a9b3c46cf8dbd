//! Counters by rule over all generations: each generation's own are folded in when it is gone.

use std::collections::{BTreeMap, HashMap};

use bulkhead_abi::Counter;
use bulkhead_api::event::Rule;
use bulkhead_api::status::RuleCount;
use bulkhead_dataplane::{Dataplane, Pins};
use serde::{Deserialize, Serialize};

/// The file in the state directory.
pub const FILE: &str = "rule-counters.json";

/// What earlier generations counted, by the rule's fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// Generations that are in here already, as long as their pins may be found again.
    generations: Vec<u32>,
    rules: BTreeMap<String, (u64, u64)>,
}

impl Folded {
    /// Adds the counters of a generation that no hook runs any more.
    pub fn fold(&mut self, generation: u32, fingerprints: &[String], counters: &[Counter]) {
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
    }

    /// Forgets rules that are in neither of these lists, and generations that are gone.
    pub fn keep(&mut self, fingerprints: &[&[String]], pinned: &[u32]) {
        let known: std::collections::HashSet<&String> = fingerprints.iter().copied().flatten().collect();
        self.rules.retain(|fingerprint, _| known.contains(fingerprint));
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
    ) -> anyhow::Result<Vec<RuleCount>> {
        Ok(self.sum(fingerprints, rules, &plane.rule_counters(pins, generation, rules.len())?))
    }

    fn sum(&self, fingerprints: &[String], rules: &[Rule], counters: &[Counter]) -> Vec<RuleCount> {
        let mut by_number: HashMap<u32, RuleCount> = HashMap::new();
        for ((fingerprint, rule), counter) in fingerprints.iter().zip(rules).zip(counters) {
            let (packets, bytes) = self.rules.get(fingerprint).copied().unwrap_or_default();
            // A venue's lane may be in both sets of tables, the overlay's and the exchange interfaces'.
            let count = by_number.entry(rule.number).or_insert_with(|| RuleCount {
                rule: rule.clone(),
                packets: 0,
                bytes: 0,
            });
            count.packets += packets + counter.packets;
            count.bytes += bytes + counter.bytes;
        }
        let mut counts: Vec<_> = by_number.into_values().collect();
        counts.sort_by_key(|count| count.rule.number);
        counts
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_abi::Counter;

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
        folded.fold(1, &[a.clone(), b.clone()], &[counter(5), counter(7)]);
        // A crash between folding and freeing: the same generation again.
        folded.fold(1, &[a.clone(), b.clone()], &[counter(5), counter(7)]);
        let now = folded.sum(&[b.clone(), c.clone()], &names(&[1, 2]), &[counter(1), counter(2)]);
        let packets: Vec<_> =
            now.iter().map(|count| (count.rule.number, count.packets, count.bytes)).collect();
        assert_eq!(packets, [(1, 8, 800), (2, 2, 200)]);
        folded.keep(&[&[b.clone(), c]], &[]);
        folded.fold(1, &[a], &[counter(1)]);
        let back = folded.sum(&["a".to_owned()], &names(&[1]), &[counter(0)]);
        assert_eq!(back[0].packets, 1, "a rule that was gone starts anew");
    }
}
