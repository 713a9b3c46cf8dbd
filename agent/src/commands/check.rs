//! `bulkhead check`: parse, resolve, run the tests section, prove venues and boundaries, look for
//! rules that never decide.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Answers, Loaded, Scope};
use bulkhead_policy::compile::{compile, compile_loopback};
use bulkhead_policy::diagnostic::{Diagnostic, Severity};
use bulkhead_policy::policy::Policy;
use bulkhead_policy::proof::Proof;
use bulkhead_policy::resolve::Exemptions;
use bulkhead_policy::unreachable::Reach;
use bulkhead_policy::verify;

use super::budget::Budget;
use crate::config::Config;
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::{diagnostics, input};

/// Check a policy: names, rules, tests, proofs, unreachable rules.
///
/// Proves that each venue admits exactly its lanes and that nothing crosses a boundary. Exits with 1 on
/// any error.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The policy.
    #[arg(value_name = "POLICY", default_value = "/etc/bulkhead/policy.hujson")]
    policy: PathBuf,
    /// The inventory.
    ///
    /// Without one, placeholders stand for tags and users of the policy, members, holders of roles and exits.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// A node whose tables must be within the memory budget.
    ///
    /// By default the one that the agent's configuration names, else the inventory's first.
    #[arg(long, value_name = "NAME", requires = "inventory")]
    node: Option<String>,
    #[command(flatten)]
    budget: Budget,
}

impl Check {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let config = self.budget.config(global)?;
        let scope = scope(config.as_ref(), global);
        let mut loaded = input::load_for(&self.policy, self.inventory.as_deref(), &scope)?;
        let start = Instant::now();
        let answers = loaded.check(input::now());
        let proof_time = start.elapsed().as_secs_f64();
        if let Some(warning) = config.as_ref().and_then(Config::lockout) {
            loaded.findings.push(Diagnostic::global(Severity::Warning, warning));
        }
        if self.inventory.is_some() && !loaded.findings.has_errors() {
            self.fits(&mut loaded, global)?;
        }
        let Answers { tally, reach, proofs, exchange, .. } = &answers;
        let errors = loaded.findings.count(Severity::Error);
        let warnings = loaded.findings.count(Severity::Warning);
        let rules = loaded.policy.as_ref().map_or(0, |policy| policy.rules());
        let nodes = loaded.inventory.as_ref().map_or(0, |inventory| inventory.nodes.len());
        let not_enforced: Vec<&str> = loaded
            .policy
            .iter()
            .flat_map(|policy| &policy.not_enforced)
            .map(|section| section.value.as_str())
            .collect();
        let dialect = if global.dialect == Dialect::Tailscale { "tailscale" } else { "bulkhead" };
        if global.json {
            println!(
                "{}",
                serde_json::json!({
                    "valid": errors == 0, "dialect": dialect, "errors": errors, "warnings": warnings,
                    "rules": rules, "nodes": nodes, "placeholder_inventory": self.inventory.is_none(),
                    "tests": tally.tested, "tests_failed": tally.failed,
                    "unreachable": reach.unreachable, "reachability_not_proved": reach.undecided,
                    "venues": proofs.venues, "venues_underlay": exchange.venues, "boundaries": proofs.boundaries,
                    "proof_seconds": proof_time,
                    "not_enforced": not_enforced, "findings": loaded.findings.0,
                })
            );
        } else {
            diagnostics::print(&loaded.findings, &loaded.sources, false);
            for section in loaded.policy.iter().flat_map(known_and_not_enforced) {
                println!("{section}: not enforced here");
            }
            let placeholder = if self.inventory.is_none() { " placeholder" } else { "" };
            println!("{rules} rules over {nodes}{placeholder} nodes, {errors} errors, {warnings} warnings");
            match *tally {
                verify::Tally { tested: 0, .. } => println!("tests: none run"),
                verify::Tally { tested, failed: 0 } => println!("tests: {tested} passed"),
                verify::Tally { tested, failed } => println!("tests: {failed} of {tested} failed"),
            }
            print_proofs(&answers);
            if answers.ran {
                let lanes = proofs.venues.iter().any(|venue| venue.lanes > 0);
                println!("{}", reachability(*reach, if lanes { "rules and lanes" } else { "rules" }));
            }
        }
        Ok(if errors == 0 { Answer::Yes } else { Answer::No })
    }
}

impl Check {
    /// Tables beyond the agent's budget are an error: the agent would refuse the policy.
    fn fits(&self, loaded: &mut Loaded, global: &Global) -> Result<(), Usage> {
        let (Some(inventory), Some(ruleset)) = (&loaded.inventory, &loaded.ruleset) else { return Ok(()) };
        let configured = self.budget.node(global)?.filter(|name| inventory.node(name).is_some());
        let first = || inventory.nodes.first().map(|node| node.name.clone());
        let Some(node) = self.node.clone().or(configured).or_else(first) else { return Ok(()) };
        let limits = self.budget.limits(global)?;
        let mut all = vec![compile(ruleset, inventory, &node, limits)];
        if inventory.workloads_of(&node).next().is_some() {
            all.push(compile_loopback(ruleset, inventory, &node, limits));
        }
        // Of the node that the agent's configuration is for.
        let is_ours = self.budget.node(global)?.as_ref() == Some(&node);
        if let Some(rules) = loaded.underlay.as_ref().filter(|_| is_ours) {
            all.push(compile(&rules.ruleset, &rules.inventory, &node, limits));
        }
        for error in all.into_iter().filter_map(Result::err) {
            let message = format!("{node}: {error}");
            loaded.findings.push(Diagnostic::global(Severity::Error, message));
        }
        Ok(())
    }
}

/// What the agent of a configuration would check with.
fn scope(config: Option<&Config>, global: &Global) -> Scope {
    let exemptions = config.map(|config| config.exemptions(config.node.as_deref().unwrap_or_default()));
    let exemptions: Exemptions = exemptions.unwrap_or_default();
    Scope { dialect: global.dialect, exemptions, has_exchange: config.is_some_and(Config::has_exchange) }
}

fn print_proofs(answers: &Answers) {
    let line = |proof: &Proof, what: &str, place: &str| {
        if proof.holds {
            println!("{}: {what}{place}, proven", proof.name);
        } else {
            println!("{}: not proven{place}", proof.name);
        }
    };
    for (proofs, place) in [(&answers.proofs, ""), (&answers.exchange, " on exchange interfaces")] {
        for proof in &proofs.venues {
            let lanes = plural(proof.lanes as u128, "lane");
            let admitted = combinations(proof.admitted);
            line(proof, &format!("{lanes}, {admitted} admitted and nothing else"), place);
        }
        for proof in &proofs.boundaries {
            let what = match proof.admitted {
                0 => "nothing crosses".to_string(),
                admitted => {
                    let exceptions = plural(proof.lanes as u128, "exception");
                    format!("nothing crosses but {} of {exceptions}", combinations(admitted))
                }
            };
            line(proof, &what, place);
        }
    }
}

fn combinations(count: u128) -> String {
    plural(count, "combination") + " of address, port and direction"
}

/// Sections of Tailscale's that nothing here enforces. Of what nobody here knows a warning tells, once.
fn known_and_not_enforced(policy: &Policy) -> Vec<&str> {
    let unknown: HashSet<&str> = policy.not_understood.iter().map(|section| section.value.as_str()).collect();
    let all = policy.not_enforced.iter().map(|section| section.value.as_str());
    all.filter(|section| !unknown.contains(section)).collect()
}

fn plural(count: u128, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn reachability(reach: Reach, what: &str) -> String {
    match reach {
        Reach { rules: 0, .. } => "unreachable rules: no rule matches anybody".into(),
        Reach { rules, unreachable: 0, undecided: 0 } => {
            format!("unreachable {what}: 0 of {rules}")
        }
        Reach { rules, unreachable, undecided: 0 } => {
            format!("unreachable {what}: {unreachable} of {rules}")
        }
        Reach { rules, unreachable, undecided } => {
            format!("unreachable {what}: {unreachable} of {rules}, {undecided} not searched to the end")
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_policy::diagnostic::Findings;
    use bulkhead_policy::policy;
    use bulkhead_policy::source::Source;

    use super::*;

    #[test]
    fn unknown_sections_have_no_line_besides_their_warning() {
        let unknown: String = (0..20_000).map(|number| format!("\"x{number}-section\": 1, ")).collect();
        let text = format!("{{{unknown} \"acls\": [], \"ssh\": [], \"derpMap\": {{}}}}");
        let mut findings = Findings::default();
        let policy = policy::parse(&Source::new("p", &text), Dialect::Bulkhead, &mut findings).unwrap();
        assert_eq!(policy.not_enforced.len(), 20_002);
        assert_eq!(known_and_not_enforced(&policy), ["ssh", "derpMap"]);
    }
}
