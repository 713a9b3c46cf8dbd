//! A policy and an inventory, compiled for this node: what a generation is made from.

use bulkhead_abi::NO_RULE;
use bulkhead_api::history::Origin;
use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::diagnostic::{Diagnostic, Findings, Severity};
use bulkhead_policy::fingerprint;
use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::resolve::{Exemptions, Ruleset};
use bulkhead_policy::source::Source;

use crate::config::{Config, Mode};
use crate::daemon::files::Files;
use crate::daemon::store::GenerationMeta;
use crate::diagnostics;

/// For whom, and in which language.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// The node.
    pub node: String,
    /// The policy's language.
    pub dialect: Dialect,
    /// Bytes that the tables may take.
    pub table_memory: u64,
    /// Whether it has exchange interfaces, which need tables of their own.
    pub has_exchange: bool,
    /// What its agent lets through, whatever the policy says.
    pub exemptions: Exemptions,
}

impl CompileOptions {
    /// Those of an agent with this configuration.
    #[must_use]
    pub fn new(config: &Config, node: String, dialect: Dialect) -> Self {
        let (table_memory, has_exchange) = (config.table_memory, config.has_exchange());
        let exemptions = config.exemptions(&node);
        Self { node, dialect, table_memory, has_exchange, exemptions }
    }

    /// What the compiler is to know of it.
    pub fn scope(&self) -> Scope {
        Scope { dialect: self.dialect, exemptions: self.exemptions.clone(), has_exchange: self.has_exchange }
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
    /// What exchange interfaces enforce. Its cells number rules after those of `program`.
    pub exchange: Option<Exchange>,
    /// The fingerprint of each rule that cells name.
    pub fingerprints: Vec<String>,
    /// What does not hold today though it is enforced, for status.
    pub problems: Vec<String>,
    /// How they came to be in force; none: not known, or they are not.
    pub origin: Option<Origin>,
}

/// Rules and tables of exchange interfaces: venues' lanes alone.
pub struct Exchange {
    /// The rules.
    pub ruleset: Ruleset,
    /// The node's tables.
    pub program: Program,
}

/// An invalid policy or inventory.
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
    /// Compiles files that are to be enforced for the first time: they must hold whatever `check`
    /// asks, at a time (ns since the Unix epoch).
    ///
    /// # Errors
    /// What is wrong in them, failed tests and proofs included.
    pub fn check(files: Files, mode: Mode, options: &CompileOptions, now: u64) -> Result<Self, Refused> {
        let mut loaded = Loaded::new(files.policy.clone(), Some(files.inventory.clone()), &options.scope());
        loaded.check(now);
        Self::of(loaded, files, mode, options)
    }

    /// Compiles files that were enforced before: what runs is not given up because time has passed and
    /// a test of theirs fails by now. It is said instead.
    ///
    /// # Errors
    /// What is wrong in them, but not failed tests and proofs.
    pub fn check_kept(files: Files, mode: Mode, options: &CompileOptions, now: u64) -> Result<Self, Refused> {
        let mut loaded = Loaded::new(files.policy.clone(), Some(files.inventory.clone()), &options.scope());
        let mut problems = Vec::new();
        if !loaded.findings.has_errors() {
            loaded.check(now);
            let findings = &mut loaded.findings.0;
            let failed = findings.extract_if(.., |finding| finding.severity == Severity::Error);
            problems.extend(failed.map(|failed| {
                tracing::error!("{}", diagnostics::excerpt(&failed, &loaded.sources));
                format!("what is enforced was accepted earlier, and does not hold today: {failed}")
            }));
        }
        Self::of(loaded, files, mode, options).map(|inputs| Self { problems, ..inputs })
    }

    /// Compiles files without asking whether their tests and proofs hold: for names, and to build again
    /// what is enforced.
    ///
    /// # Errors
    /// What is wrong in them.
    pub fn compile(files: Files, mode: Mode, options: &CompileOptions) -> Result<Self, Refused> {
        let loaded = Loaded::new(files.policy.clone(), Some(files.inventory.clone()), &options.scope());
        Self::of(loaded, files, mode, options)
    }

    /// [`Self::compile`], for whom a time is given.
    ///
    /// # Errors
    /// What is wrong in them.
    pub fn compile_at(
        files: Files,
        mode: Mode,
        options: &CompileOptions,
        _now: u64,
    ) -> Result<Self, Refused> {
        Self::compile(files, mode, options)
    }

    /// What is kept of it besides the files.
    #[must_use]
    pub fn made(&self) -> GenerationMeta {
        let (policy, inventory) = self.files.paths();
        let (mode, fingerprints) = (self.mode, self.fingerprints.clone());
        let digests = Some(self.files.digests());
        GenerationMeta { policy, inventory, digests, mode, fingerprints, origin: self.origin.clone() }
    }

    fn of(loaded: Loaded, files: Files, mode: Mode, options: &CompileOptions) -> Result<Self, Refused> {
        let Loaded { sources, inventory, ruleset, underlay, mut findings, .. } = loaded;
        let (Some(inventory), Some(ruleset), false) = (inventory, ruleset, findings.has_errors()) else {
            return Err(Refused { findings, sources, unknown_node: false });
        };
        let unknown_node = inventory.node(&options.node).is_none();
        let limits = Limits { bytes: options.table_memory };
        let underlay = underlay.filter(|_| options.has_exchange);
        let compiled = compile(&ruleset, &inventory, &options.node, limits)
            .map_err(|error| findings.push(Diagnostic::global(Severity::Error, error.to_string())))
            .and_then(|program| {
                let exchange =
                    underlay.map(|rules| Exchange::compile(rules, &inventory, options, &mut findings));
                Ok((program, exchange.transpose()?))
            });
        let Ok((mut program, mut exchange)) = compiled else {
            return Err(Refused { findings, sources, unknown_node });
        };
        let mut fingerprints = fingerprint::fingerprints(&ruleset, &program.rules, "");
        if let Some(exchange) = &mut exchange {
            fingerprints.extend(fingerprint::fingerprints(
                &exchange.ruleset,
                &exchange.program.rules,
                "exchange\n",
            ));
            number_after(&mut program, &mut exchange.program);
        }
        let problems = Vec::new();
        Ok(Self { files, mode, ruleset, inventory, program, exchange, fingerprints, problems, origin: None })
    }
}

impl Exchange {
    /// Compiles the venues' lanes. What is wrong goes to `findings`.
    fn compile(
        ruleset: Ruleset,
        inventory: &Inventory,
        options: &CompileOptions,
        findings: &mut Findings,
    ) -> Result<Self, ()> {
        let mut refuse = |words: String| findings.push(Diagnostic::global(Severity::Error, words));
        if inventory.node(&options.node).is_some_and(|node| node.underlay.is_empty()) {
            refuse(format!(
                "node {} has exchange interfaces and no `underlay` address in the inventory: nothing could pass there",
                options.node
            ));
            return Err(());
        }
        let limits = Limits { bytes: options.table_memory };
        let program = compile(&ruleset, inventory, &options.node, limits)
            .map_err(|error| refuse(format!("exchange interfaces: {error}")))?;
        Ok(Self { ruleset, program })
    }
}

/// Numbers the rules of two sets of tables through, so that they share counters and names.
fn number_after(first: &mut Program, second: &mut Program) {
    let offset = first.rules.len() as u32;
    let numbered = second.tables.cells.iter_mut().filter(|cell| cell.rule != NO_RULE);
    numbered.for_each(|cell| cell.rule += offset);
    let all = offset + second.rules.len() as u32;
    (first.tables.rules, second.tables.rules) = (all, all);
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
