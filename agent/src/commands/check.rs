//! `bulkhead check`: parse, resolve, run the tests section, look for rules that never decide.

use std::path::PathBuf;

use bulkhead_compiler::Dialect;
use bulkhead_compiler::diagnostic::Severity;
use bulkhead_compiler::reach::{self, Reach};
use bulkhead_compiler::verify;

use crate::cli::Global;
use crate::exit::Answer;
use crate::{diagnostics, input};

/// Checks a policy: names, rules, its own tests, and rules that can never decide. Exits with 1
/// on any error.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The policy.
    #[arg(value_name = "POLICY", default_value = "/etc/bulkhead/policy.hujson")]
    policy: PathBuf,
    /// The inventory. Without one, each tag and each user of the policy is imagined to have one node.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
}

impl Check {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let mut loaded = input::load(&self.policy, self.inventory.as_deref(), global.dialect)?;
        let (mut tally, mut reach) = (verify::Tally::default(), Reach::default());
        if let (Some(ruleset), Some(inventory), false) =
            (&loaded.ruleset, &loaded.inventory, loaded.findings.has_errors())
        {
            tally = verify::run(ruleset, inventory, input::now(), &mut loaded.findings);
            reach = reach::check(ruleset, input::now(), &mut loaded.findings);
            loaded.findings.sort();
        }
        let errors = loaded.findings.count(Severity::Error);
        let warnings = loaded.findings.count(Severity::Warning);
        let rules = loaded.ruleset.as_ref().map_or(0, |ruleset| ruleset.rules.len());
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
                    "rules": rules, "nodes": nodes, "imagined_inventory": self.inventory.is_none(),
                    "tests": tally.tested, "tests_failed": tally.failed,
                    "unreachable": reach.unreachable, "reachability_not_proved": reach.undecided,
                    "not_enforced": not_enforced, "findings": loaded.findings.0,
                })
            );
        } else {
            diagnostics::print(&loaded.findings, &loaded.sources, false);
            for section in &not_enforced {
                println!("{section}: not enforced here");
            }
            let imagined = if self.inventory.is_none() { " imagined" } else { "" };
            println!("{rules} rules over {nodes}{imagined} nodes, {errors} errors, {warnings} warnings");
            match tally {
                verify::Tally { tested: 0, .. } => println!("tests: none run"),
                verify::Tally { tested, failed: 0 } => println!("tests: {tested} hold"),
                verify::Tally { tested, failed } => println!("tests: {failed} of {tested} fail"),
            }
            if errors == tally.failed {
                println!("{}", reachability(reach));
            }
        }
        Ok(if errors == 0 { Answer::Yes } else { Answer::No })
    }
}

fn reachability(reach: Reach) -> String {
    match reach {
        Reach { rules: 0, .. } => "reachability: no rule is about anybody".into(),
        Reach { rules, unreachable: 0, undecided: 0 } => {
            format!("reachability: each of {rules} rules decides something")
        }
        Reach { rules, unreachable, undecided: 0 } => {
            format!("reachability: {unreachable} of {rules} rules never decide")
        }
        Reach { rules, unreachable, undecided } => format!(
            "reachability: {unreachable} of {rules} rules never decide, {undecided} were not searched to the end"
        ),
    }
}
