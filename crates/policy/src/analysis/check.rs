//! Everything that is asked of a policy before it is enforced: it parses, resolves, crosses no
//! boundary, holds its own tests and proofs. One function, so that what one command refuses no other enforces.

use super::boundaries;
use crate::Dialect;
use crate::analysis::proof::{self, Proofs};
use crate::analysis::review;
use crate::analysis::unmet;
use crate::analysis::unreachable::{self, Reach};
use crate::analysis::verify::{self, Tally};
use crate::frontend::diagnostic::{Diagnostic, Findings};
use crate::frontend::inventory::{self, Inventory, Network};
use crate::frontend::policy::{self, Policy};
use crate::frontend::source::Source;
use crate::resolve::{
    Exemptions, Rule, Ruleset, UnderlayRules, World, placeholder, placeholder_as, resolve_with, underlay,
};

/// Whom a policy is for.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The policy's language.
    pub dialect: Dialect,
    /// What one node's agent lets through, whatever the policy says.
    pub exemptions: Exemptions,
    /// The node has exchange interfaces: their rules are needed even if they are empty.
    pub has_exchange: bool,
}

/// A policy over an inventory, and what was found wrong with either.
pub struct Loaded {
    /// The files, for excerpts.
    pub sources: Vec<Source>,
    /// The policy as written.
    pub policy: Option<Policy>,
    /// The inventory; one of placeholders if none was named.
    pub inventory: Option<Inventory>,
    /// The rules.
    pub ruleset: Option<Ruleset>,
    /// The rules of exchange interfaces: if the policy has venues and any node an underlay
    /// address, or the scope needs them.
    pub exchange: Option<Ruleset>,
    /// The rules of the underlay interfaces of the scope's node, if it has any.
    pub underlay: Option<UnderlayRules>,
    /// What was found.
    pub findings: Findings,
    /// Whether the inventory is one of placeholders.
    pub is_placeholder: bool,
}

/// What was found out beyond the files' own errors.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Whether there was anything to ask: the files have no error of their own.
    pub ran: bool,
    /// The tests section.
    pub tally: Tally,
    /// Rules that never decide.
    pub reach: Reach,
    /// What was proven on the overlay.
    pub proofs: Proofs,
    /// What was proven on exchange interfaces.
    pub exchange: Proofs,
}

impl Loaded {
    /// Parses and resolves both files, on both networks. What is wrong in them is among the findings.
    #[must_use]
    pub fn new(policy_source: Source, inventory_source: Option<Source>, scope: &Scope) -> Self {
        let inventory = inventory_source.clone();
        Self::with(policy_source, inventory_source, scope, |policy, findings| match &inventory {
            Some(source) => inventory::parse(source, findings),
            None => policy.map(placeholder),
        })
    }

    /// The same over an inventory that was read before and had no error: reading it anew takes longer than all else.
    #[must_use]
    pub fn over(policy_source: Source, inventory: &Inventory, scope: &Scope) -> Self {
        Self::with(policy_source, Some(inventory.source.clone()), scope, |_, _| Some(inventory.clone()))
    }

    fn with(
        policy_source: Source,
        inventory_source: Option<Source>,
        scope: &Scope,
        read: impl FnOnce(Option<&Policy>, &mut Findings) -> Option<Inventory>,
    ) -> Self {
        let mut findings = Findings::default();
        let policy = policy::parse(&policy_source, scope.dialect, &mut findings);
        let inventory = read(policy.as_ref(), &mut findings);
        let mut resolve = |network| {
            let (policy, inventory) = policy.as_ref().zip(inventory.as_ref())?;
            let on_exchanges = || inventory.nodes.iter().any(|node| !node.underlay.is_empty());
            let is_wanted = network == Network::Overlay
                || scope.has_exchange
                || (on_exchanges() && !policy.venues.is_empty());
            let exemptions = &scope.exemptions;
            is_wanted.then(|| {
                let mut ruleset =
                    resolve_with(policy, inventory, scope.dialect, network, exemptions, &mut findings);
                without_exemptions(&mut ruleset, |rules| boundaries::check(rules, inventory, &mut findings));
                ruleset
            })
        };
        let (ruleset, exchange) = (resolve(Network::Overlay), resolve(Network::Underlay));
        let underlay = ruleset
            .as_ref()
            .zip(inventory.as_ref())
            .and_then(|(ruleset, inventory)| underlay(ruleset, inventory, &scope.exemptions, &mut findings));
        findings.sort();
        let is_placeholder = inventory_source.is_none();
        let sources = std::iter::once(policy_source).chain(inventory_source).collect();
        Self { sources, policy, inventory, ruleset, exchange, underlay, findings, is_placeholder }
    }

    /// Runs the tests section and sshTests, proves venues and boundaries, and looks for rules that never decide, at
    /// a time (ns since the Unix epoch). What fails is among the findings, with its position. Files
    /// with errors are asked nothing.
    ///
    /// What one node's agent exempts is left out, so that a policy holds on every node or on none.
    pub fn check(&mut self, now: u64) -> Answers {
        let mut answers = Answers::default();
        let findings = &mut self.findings;
        if let (Some(inventory), Some(ruleset), false) =
            (&self.inventory, &mut self.ruleset, findings.has_errors())
        {
            answers.ran = true;
            without_exemptions(ruleset, |ruleset| {
                let mut failures = Findings::default();
                answers.tally = verify::run(ruleset, inventory, now, &mut failures);
                if let (true, Some(policy)) = (self.is_placeholder, &self.policy) {
                    fails_everywhere(policy, ruleset, now, &mut failures);
                    let is_ssh = |failure: &&Diagnostic| ruleset.ssh_failures.contains(*failure);
                    answers.tally.failed = failures.0.len() - failures.0.iter().filter(is_ssh).count();
                }
                failures.0.into_iter().for_each(|failure| findings.push(failure));
                answers.proofs = proof::prove(ruleset, inventory, now, findings);
                answers.reach = unreachable::check(ruleset, now, findings);
                if let Some(policy) = &self.policy {
                    unmet::check(policy, ruleset, findings);
                    review::check(policy, now, findings);
                }
            });
            if let Some(exchange) = &mut self.exchange {
                without_exemptions(exchange, |exchange| {
                    answers.exchange = proof::prove(exchange, inventory, now, findings);
                });
            }
        }
        findings.sort();
        answers
    }
}

/// Keeps those failures of tests that are failures whatever roles the placeholder users have, and whoever routes
/// the addresses that tests name.
fn fails_everywhere(policy: &Policy, ruleset: &Ruleset, now: u64, failures: &mut Findings) {
    for world in World::ALL.into_iter().filter(|world| *world != World::Members) {
        if failures.0.is_empty() {
            return;
        }
        let inventory = placeholder_as(policy, world);
        let mut there = Findings::default();
        let exemptions = Exemptions::default();
        let other =
            resolve_with(policy, &inventory, ruleset.dialect, Network::Overlay, &exemptions, &mut there);
        let mut failed = Findings::default();
        verify::run(&other, &inventory, now, &mut failed);
        failures.0.retain(|failure| failed.0.iter().any(|other| other.location == failure.location));
    }
}

/// Asks of the rules without the agent's exemptions, which come first.
fn without_exemptions(ruleset: &mut Ruleset, ask: impl FnOnce(&Ruleset)) {
    let own = |rule: &Rule| !rule.is_from_agent();
    let first = ruleset.rules.iter().position(own).unwrap_or(ruleset.rules.len());
    let exempt: Vec<Rule> = ruleset.rules.drain(..first).collect();
    ask(ruleset);
    ruleset.rules.splice(0..0, exempt);
}
