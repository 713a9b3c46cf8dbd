//! What the numbers of a generation mean.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bulkhead_api::event::{Granted, Rule};
use bulkhead_events::Enricher;
use bulkhead_policy::policy;
use bulkhead_policy::resolve::{self, Ruleset};

use crate::config::{Config, Managed, Mode, Role};
use crate::daemon::state::inputs::Inputs;

/// Interfaces by all indices that they have had.
pub type Indices = Arc<Mutex<HashMap<u32, String>>>;

/// A rule as events name it.
pub fn named(rule: &resolve::Rule) -> Rule {
    let granted = |grant: &policy::Grant| Granted {
        id: grant.id.clone(),
        ticket: rule.record.ticket.clone().unwrap_or_default(),
        requester: grant.requester.clone(),
        approvers: grant.approvers.clone(),
        break_glass: grant.break_glass,
    };
    Rule {
        number: rule.number,
        name: rule.name.clone(),
        position: rule.location.as_ref().map(ToString::to_string),
        grant: rule.grant.as_ref().map(|grant| Box::new(granted(grant))),
    }
}

/// Names of what a generation was made from, for interfaces of a configuration.
#[must_use]
pub fn enricher(inputs: &Inputs, indices: Indices, config: &Config) -> Enricher {
    let Inputs { ruleset, inventory, program, others, .. } = inputs;
    let all = |ruleset: &Ruleset, rules: &[usize]| -> Vec<Rule> {
        rules.iter().map(|index| named(&ruleset.rules[*index])).collect()
    };
    let mut rules = all(ruleset, &program.rules);
    for other in others {
        rules.extend(all(&other.ruleset, &other.program.rules));
    }
    let is_beneath = |managed: &&Managed| managed.role == Role::Underlay;
    let beneath = config.interfaces.iter().filter(is_beneath).map(|managed| managed.name.clone());
    Enricher::new(inventory, rules, indices, inputs.mode == Mode::Audit).beneath(beneath.collect())
}
