//! What a rule is known by over changes of a policy.

use sha2::{Digest as _, Sha256};

use super::{Rule, Ruleset};
use crate::frontend::policy::Action;

/// What makes a rule of two policies the same, whatever its number and place: action, sources,
/// destinations and services as written after expansion. Rules that are alike in all of these
/// are told apart by their order. `of` sets those of one network apart from those of another.
#[must_use]
pub fn fingerprints(ruleset: &Ruleset, rules: &[usize], of: &str) -> Vec<String> {
    let mut texts: Vec<(usize, String)> = rules.iter().map(|rule| (*rule, text(ruleset, *rule))).collect();
    let mut seen = std::collections::HashMap::<String, u32>::new();
    // Cells number rules as they are first needed; what tells twins apart must not depend on that.
    texts.sort_by_key(|(rule, _)| *rule);
    let by_rule: std::collections::HashMap<usize, String> = texts
        .into_iter()
        .map(|(rule, text)| {
            let twin = seen.entry(text.clone()).or_default();
            *twin += 1;
            let digest = Sha256::digest(format!("{of}{text}\n{twin}"));
            (rule, digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
        })
        .collect();
    rules.iter().map(|rule| by_rule[rule].clone()).collect()
}

/// Action, sources, destinations and services of a rule, as written after expansion.
pub(crate) fn text(ruleset: &Ruleset, rule: usize) -> String {
    let Rule { action, blocks, expires, .. } = &ruleset.rules[rule];
    let mut text = format!("{} {expires:?}", if *action == Action::Accept { "accept" } else { "deny" });
    for block in blocks {
        text.push_str("\nfrom");
        for id in &block.sources {
            text.push('\t');
            text.push_str(&ruleset.selector(*id).label);
        }
        text.push_str("\nto");
        for (id, service) in &block.destinations {
            text.push_str(&format!("\t{} {}", ruleset.selector(*id).label, ruleset.service(*service)));
        }
    }
    text
}
