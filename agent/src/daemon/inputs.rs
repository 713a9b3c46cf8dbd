//! A policy and an inventory, compiled for this node: what a generation is made from.

use std::path::{Path, PathBuf};

use bulkhead_compiler::Dialect;
use bulkhead_compiler::compile::{Limits, Program, compile};
use bulkhead_compiler::diagnostic::{Diagnostic, Findings, Severity};
use bulkhead_compiler::inventory::Inventory;
use bulkhead_compiler::policy::Action;
use bulkhead_compiler::resolve::{Rule, Ruleset};
use bulkhead_compiler::source::Source;
use sha2::{Digest as _, Sha256};

use crate::config::Mode;
use crate::exit::Usage;
use crate::{diagnostics, input};

/// For whom, and in which language.
#[derive(Clone, Debug)]
pub struct Target {
    /// The node.
    pub node: String,
    /// The policy's language.
    pub dialect: Dialect,
    /// Bytes that the tables may take.
    pub table_memory: u64,
}

/// Files as they were read.
#[derive(Clone, Debug)]
pub struct Files {
    /// The policy.
    pub policy: Source,
    /// The inventory.
    pub inventory: Source,
}

impl Files {
    /// Reads both.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(policy: &Path, inventory: &Path) -> Result<Self, Usage> {
        Ok(Self { policy: input::read(policy)?, inventory: input::read(inventory)? })
    }

    /// Whether the texts are the same.
    #[must_use]
    pub fn same_text(&self, other: &Self) -> bool {
        self.policy.text() == other.policy.text() && self.inventory.text() == other.inventory.text()
    }

    /// Their paths, as they were given.
    #[must_use]
    pub fn paths(&self) -> (PathBuf, PathBuf) {
        (PathBuf::from(&**self.policy.name()), PathBuf::from(&**self.inventory.name()))
    }
}

/// Compiled files.
pub struct Inputs {
    /// The files.
    pub files: Files,
    /// What to do with packets that the policy does not admit.
    pub mode: Mode,
    /// The rules.
    pub ruleset: Ruleset,
    /// Who exists.
    pub inventory: Inventory,
    /// The node's tables.
    pub program: Program,
    /// The fingerprint of each rule that cells name.
    pub fingerprints: Vec<String>,
}

/// Files that do not hold.
#[derive(Debug)]
pub struct Refused {
    /// What is wrong.
    pub findings: Findings,
    /// The files, for excerpts.
    pub sources: Vec<Source>,
    /// The node is not in the inventory.
    pub unknown_node: bool,
}

impl Refused {
    /// The findings as text with excerpts.
    #[must_use]
    pub fn text(&self) -> String {
        self.findings.0.iter().map(|finding| diagnostics::excerpt(finding, &self.sources)).collect()
    }
}

impl Inputs {
    /// Compiles files.
    ///
    /// # Errors
    /// What is wrong in them.
    pub fn compile(files: Files, mode: Mode, target: &Target) -> Result<Self, Refused> {
        let loaded = input::load_sources(files.policy.clone(), Some(files.inventory.clone()), target.dialect);
        let (Some(ruleset), Some(inventory), false) =
            (loaded.ruleset, loaded.inventory, loaded.findings.has_errors())
        else {
            return Err(Refused { findings: loaded.findings, sources: loaded.sources, unknown_node: false });
        };
        let limits = Limits { bytes: target.table_memory };
        match compile(&ruleset, &inventory, &target.node, limits) {
            Ok(program) => {
                let fingerprints = fingerprints(&ruleset, &program.rules);
                Ok(Self { files, mode, ruleset, inventory, program, fingerprints })
            }
            Err(error) => {
                let mut findings = loaded.findings;
                findings.push(Diagnostic::global(Severity::Error, error.to_string()));
                let unknown_node = inventory.node(&target.node).is_none();
                Err(Refused { findings, sources: loaded.sources, unknown_node })
            }
        }
    }
}

/// What makes a rule of two policies the same, whatever its number and place: action, sources,
/// destinations and services as written after expansion. Rules that are alike in all of these
/// are told apart by their order.
fn fingerprints(ruleset: &Ruleset, rules: &[usize]) -> Vec<String> {
    let mut texts: Vec<(usize, String)> = rules.iter().map(|rule| (*rule, text(ruleset, *rule))).collect();
    let mut seen = std::collections::HashMap::<String, u32>::new();
    // Cells number rules as they are first needed; what tells twins apart must not depend on that.
    texts.sort_by_key(|(rule, _)| *rule);
    let by_rule: std::collections::HashMap<usize, String> = texts
        .into_iter()
        .map(|(rule, text)| {
            let twin = seen.entry(text.clone()).or_default();
            *twin += 1;
            let digest = Sha256::digest(format!("{text}\n{twin}"));
            (rule, digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
        })
        .collect();
    rules.iter().map(|rule| by_rule[rule].clone()).collect()
}

fn text(ruleset: &Ruleset, rule: usize) -> String {
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

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
