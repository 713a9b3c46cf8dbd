//! What the numbers of a generation mean.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bulkhead_api::event::Rule;
use bulkhead_events::Enricher;
use bulkhead_policy::resolve::Ruleset;

use crate::config::Mode;
use crate::daemon::state::inputs::Inputs;

/// Interfaces by all indices that they have had.
pub type Indices = Arc<Mutex<HashMap<u32, String>>>;

/// Names of what a generation was made from.
#[must_use]
pub fn enricher(inputs: &Inputs, indices: Indices) -> Enricher {
    let Inputs { ruleset, inventory, program, exchange, .. } = inputs;
    let named = |ruleset: &Ruleset, rules: &[usize]| -> Vec<Rule> {
        let rules = rules.iter().map(|index| &ruleset.rules[*index]);
        rules
            .map(|rule| Rule {
                number: rule.number,
                name: rule.name.clone(),
                position: rule.location.as_ref().map(ToString::to_string),
            })
            .collect()
    };
    let mut rules = named(ruleset, &program.rules);
    if let Some(exchange) = exchange {
        rules.extend(named(&exchange.ruleset, &exchange.program.rules));
    }
    Enricher::new(inventory, rules, indices, inputs.mode == Mode::Audit)
}
