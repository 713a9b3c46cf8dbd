//! What is watched of a generation's rules.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_api::event::Rule;
use bulkhead_policy::policy::Tls;

use crate::daemon::state::enricher::named;
use crate::daemon::state::inputs::Inputs;
use crate::tls::Admitted;

/// Rules that matter to the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Those that expire, and when, ns since the Unix epoch.
    pub expiring: Vec<(Rule, u64)>,
    /// Numbers of venues' sessions.
    pub sessions: BTreeSet<u32>,
    /// What those ask for that ask for TLS, by their numbers.
    pub tls: BTreeMap<u32, Tls>,
    /// What they admit to the host's own overlay addresses, and how it is to begin.
    pub admitted: Vec<Admitted>,
}

impl Watched {
    /// Those of compiled files.
    pub fn of(inputs: &Inputs, node: &str) -> Self {
        let of_others = inputs.others.iter().map(|other| (&other.ruleset, &other.program));
        let sets = std::iter::once((&inputs.ruleset, &inputs.program)).chain(of_others);
        // A lane may be in both sets of tables.
        let rules: BTreeMap<u32, _> = sets
            .flat_map(|(ruleset, program)| program.rules.iter().map(|index| &ruleset.rules[*index]))
            .map(|rule| (rule.number, rule))
            .collect();
        // A grant ends soon by its nature.
        let expiring = rules
            .values()
            .filter(|rule| rule.grant.is_none())
            .filter_map(|rule| Some((named(rule), rule.expires?)))
            .collect();
        let sessions = rules.values().filter(|rule| rule.is_session).map(|rule| rule.number).collect();
        let tls = rules.values().filter_map(|rule| Some((rule.number, rule.tls?))).collect();
        let admitted = Admitted::of(&inputs.ruleset, &inputs.program.rules, &inputs.inventory, node);
        Self { expiring, sessions, tls, admitted }
    }
}
