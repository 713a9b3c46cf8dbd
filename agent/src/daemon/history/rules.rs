//! Which rule a generation's numbers are, by its fingerprint.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bulkhead_api::event::Rule;
use bulkhead_history::RuleNote;

/// Generations that are remembered.
const MOST: usize = 8;

/// The rules of one generation.
pub struct Rules {
    /// Fingerprints by the numbers that the kernel has.
    by_cell: Vec<String>,
    /// Fingerprints by numbers in the policy.
    by_number: HashMap<u32, String>,
    notes: Vec<RuleNote>,
}

impl Rules {
    /// Those of a generation: fingerprints and names by the numbers that the kernel has. A venue's lane may be there
    /// twice, on overlays and on exchange interfaces; it is one rule, by the fingerprint of the first.
    pub fn new(fingerprints: &[String], rules: &[Rule]) -> Self {
        let mut by_number = HashMap::new();
        let mut notes = Vec::new();
        for (fingerprint, rule) in fingerprints.iter().zip(rules) {
            by_number.entry(rule.number).or_insert_with(|| {
                let Rule { number, name, position, .. } = rule.clone();
                notes.push(RuleNote { fingerprint: fingerprint.clone(), number, name, position });
                fingerprint.clone()
            });
        }
        let by_cell =
            rules.iter().map(|rule| by_number[&rule.number].clone()).take(fingerprints.len()).collect();
        Self { by_cell, by_number, notes }
    }

    /// The fingerprint of a number that the kernel has.
    pub fn by_cell(&self, cell: u32) -> Option<&String> {
        self.by_cell.get(cell as usize)
    }

    /// The fingerprint of a number in the policy.
    pub fn by_number(&self, number: u32) -> Option<&String> {
        self.by_number.get(&number)
    }

    /// All of them, to be noted.
    pub fn notes(&self) -> &[RuleNote] {
        &self.notes
    }
}

/// The rules of the last generations.
#[derive(Default)]
pub struct Known(BTreeMap<u32, Arc<Rules>>);

impl Known {
    /// Those of a generation, made by `make` if they are not known yet.
    pub fn of(&mut self, generation: u32, make: impl FnOnce() -> Rules) -> Arc<Rules> {
        let rules = self.0.entry(generation).or_insert_with(|| Arc::new(make())).clone();
        while self.0.len() > MOST {
            self.0.pop_first();
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::{Rule, Rules};

    #[test]
    fn a_lane_in_both_sets_of_tables_is_one_rule() {
        let rule = |number| Rule::plain(number, None, None);
        let prints = ["a", "b", "a'"].map(str::to_owned);
        let rules = Rules::new(&prints, &[rule(1), rule(7), rule(1)]);
        let by_cell: Vec<_> = (0..4).map(|cell| rules.by_cell(cell).map(String::as_str)).collect();
        assert_eq!(by_cell, [Some("a"), Some("b"), Some("a"), None]);
        assert_eq!(rules.by_number(7).map(String::as_str), Some("b"));
        assert_eq!(rules.notes().len(), 2);
    }
}
