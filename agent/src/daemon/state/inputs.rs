//! A policy and an inventory, compiled for this node: what a generation is made from.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_abi::NO_RULE;
use bulkhead_api::history::Origin;
use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::compile::{Limits, Program, compile, compile_loopback};
use bulkhead_policy::diagnostic::{Diagnostic, Findings, Severity};
use bulkhead_policy::fingerprint;
use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::resolve::{Exemptions, Ruleset, UnderlayRules};
use bulkhead_policy::source::Source;

use crate::config::{Config, Mode, Role};
use crate::daemon::files::Files;
use crate::daemon::grants::{self, Grants};
use crate::daemon::state::addresses::Addresses;
use crate::daemon::store::GenerationMeta;
use crate::daemon::trust::Signed;
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
    /// Whether what is said on `lo` is judged, which needs tables of its own.
    pub has_local: bool,
    /// What its agent lets through, whatever the policy says.
    pub exemptions: Exemptions,
    /// What its underlay interfaces have.
    pub addresses: Addresses,
    /// What is granted for a time.
    pub grants: Arc<Grants>,
}

impl CompileOptions {
    /// Those of an agent with this configuration.
    #[must_use]
    pub fn new(config: &Config, node: String, dialect: Dialect) -> Self {
        let (table_memory, has_exchange) = (config.table_memory, config.has_exchange());
        let has_local = config.has_local();
        let exemptions = config.exemptions(&node);
        Self {
            node,
            dialect,
            table_memory,
            has_exchange,
            has_local,
            exemptions,
            addresses: Addresses::default(),
            grants: Arc::default(),
        }
    }

    /// What the compiler is to know of it.
    pub fn scope(&self) -> Scope {
        let mut exemptions = self.exemptions.clone();
        if let Some(underlay) = &mut exemptions.underlay {
            underlay.addresses = self.addresses.now().into_iter().collect();
        }
        Scope { dialect: self.dialect, exemptions, has_exchange: self.has_exchange }
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
    /// What interfaces of other roles enforce. Their cells number rules after those of `program`, one after the other.
    pub others: Vec<OfRole>,
    /// The addresses of underlay interfaces that it was compiled for.
    pub addresses: BTreeSet<IpAddr>,
    /// The fingerprint of each rule that cells name.
    pub fingerprints: Vec<String>,
    /// What does not hold today though it is enforced, for status.
    pub problems: Vec<String>,
    /// Addresses of underlay interfaces where nothing passes, and why, for status.
    pub refused: Vec<String>,
    /// The grants that are among the rules, by their ids.
    pub granted: BTreeSet<String>,
    /// Who has signed the files, as `[trust]` asks for.
    pub signed: Signed,
    /// How they came to be in force; none: not known, or they are not.
    pub origin: Option<Origin>,
}

/// Rules and tables of interfaces of another role than overlay.
pub struct OfRole {
    /// Which.
    pub role: Role,
    /// The rules.
    pub ruleset: Ruleset,
    /// The node's tables.
    pub program: Program,
    /// Who has which address there; none: as in the inventory.
    pub inventory: Option<Inventory>,
}

/// How many findings of each severity are told of.
const MOST: usize = 10;

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
    /// The first findings as text with excerpts: no file, however long and wrong, keeps who asks waiting, or fills a log.
    #[must_use]
    pub fn text(&self) -> String {
        diagnostics::text(&self.findings, &self.sources, MOST, "`bulkhead check --json`")
    }
}

/// Takes out what keeps new files out, if nothing keeps out those that were enforced before.
fn without_recent(findings: &mut Findings) -> Vec<Diagnostic> {
    if findings.refuse_enforced() { Vec::new() } else { errors_of(findings) }
}

/// Takes the errors out.
fn errors_of(findings: &mut Findings) -> Vec<Diagnostic> {
    findings.0.extract_if(.., |finding| finding.severity == Severity::Error).collect()
}

impl Inputs {
    /// Compiles files that are to be enforced for the first time, with the grants that run: they must hold whatever `check`
    /// asks, at a time (ns since the Unix epoch).
    ///
    /// # Errors
    /// What is wrong in them, failed tests and proofs included.
    pub fn check(files: Files, mode: Mode, options: &CompileOptions, now: u64) -> Result<Self, Refused> {
        let files = options.grants.add_to(files, &options.scope(), now);
        let base = grants::taken_from(&files);
        let checked = |files: Files| {
            let mut loaded =
                Loaded::new(files.policy.clone(), Some(files.inventory.clone()), &options.scope());
            loaded.check(now);
            Self::of(loaded, files, mode, options)
        };
        checked(files).map_err(|mut refused| {
            // Nobody ends a grant by applying a policy who does not know that there is one.
            if let Some(base) = base
                && checked(base).is_ok()
            {
                refused.findings.push(options.grants.no_room());
            }
            refused
        })
    }

    /// Compiles files that were enforced before, with the grants that run: what runs is not given up because time has passed and
    /// a test of theirs fails by now. It is said instead. Where they cannot be built with the grants they are without any:
    /// nobody is kept from the way back by a grant.
    ///
    /// # Errors
    /// What is wrong in them, but not failed tests and proofs, nor what keeps new files out only.
    pub fn check_kept(files: Files, mode: Mode, options: &CompileOptions, now: u64) -> Result<Self, Refused> {
        let files = options.grants.add_to(files, &options.scope(), now);
        let base = grants::taken_from(&files);
        let (refused, base) = match (Self::kept(files, mode, options, now), base) {
            (Err(refused), Some(base)) => (refused, base),
            (done, _) => return done,
        };
        let inputs = Self::kept(base, mode, options, now)?;
        let mut errors = refused.findings.0.iter().filter(|finding| finding.severity == Severity::Error);
        let why = errors.next().map(|error| format!(": {}", error.message)).unwrap_or_default();
        options.grants.left_out(&format!("what is enforced cannot be built with the grants that run{why}"));
        Ok(inputs)
    }

    fn kept(files: Files, mode: Mode, options: &CompileOptions, now: u64) -> Result<Self, Refused> {
        let mut loaded = Loaded::new(files.policy.clone(), Some(files.inventory.clone()), &options.scope());
        let mut failed = without_recent(&mut loaded.findings);
        if !loaded.findings.has_errors() {
            loaded.check(now);
            failed.extend(errors_of(&mut loaded.findings));
        }
        let told = |failed: Diagnostic| {
            tracing::error!("{}", diagnostics::excerpt(&failed, &loaded.sources));
            format!("what is enforced was accepted earlier, and does not hold today: {failed}")
        };
        let problems = failed.into_iter().map(told).collect();
        Ok(Self { problems, ..Self::of(loaded, files, mode, options)? })
    }

    /// Compiles files without asking whether their tests and proofs hold, nor what keeps new files out only: for names, and
    /// to build again what is enforced.
    ///
    /// # Errors
    /// What is wrong in them.
    pub fn compile(files: Files, mode: Mode, options: &CompileOptions) -> Result<Self, Refused> {
        let mut loaded = Loaded::new(files.policy.clone(), Some(files.inventory.clone()), &options.scope());
        without_recent(&mut loaded.findings);
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
        let (origin, signed) = (self.origin.clone(), self.signed.clone());
        GenerationMeta { policy, inventory, digests, mode, fingerprints, signed, origin }
    }

    fn of(loaded: Loaded, files: Files, mode: Mode, options: &CompileOptions) -> Result<Self, Refused> {
        let Loaded { sources, inventory, ruleset, exchange, underlay, mut findings, .. } = loaded;
        let (Some(inventory), Some(ruleset), false) = (inventory, ruleset, findings.has_errors()) else {
            return Err(Refused { findings, sources, unknown_node: false });
        };
        let unknown_node = inventory.node(&options.node).is_none();
        let mut addresses = BTreeSet::new();
        let mut refused = Vec::new();
        let compiled = compile(&ruleset, &inventory, &options.node, options.limits())
            .map_err(|error| findings.push(Diagnostic::global(Severity::Error, error.to_string())))
            .and_then(|program| {
                let mut others = Vec::new();
                if let Some(rules) = exchange.filter(|_| options.has_exchange) {
                    others.push(OfRole::exchange(rules, &inventory, options, &mut findings)?);
                }
                if let Some(rules) = underlay {
                    refused.extend(rules.refused.iter().map(why_refused));
                    addresses.extend(&rules.given);
                    others.push(OfRole::underlay(rules, options, &mut findings)?);
                }
                if options.has_local {
                    others.push(OfRole::local(&ruleset, &inventory, options, &mut findings)?);
                }
                Ok((program, others))
            });
        let Ok((mut program, mut others)) = compiled else {
            return Err(Refused { findings, sources, unknown_node });
        };
        let mut fingerprints = fingerprint::fingerprints(&ruleset, &program.rules, "");
        for OfRole { role, ruleset, program, .. } in &others {
            let of = match role {
                Role::Overlay => "",
                Role::Exchange => "exchange\n",
                Role::Underlay => "underlay\n",
                Role::Local => "local\n",
            };
            fingerprints.extend(fingerprint::fingerprints(ruleset, &program.rules, of));
        }
        number_through(&mut program, &mut others);
        let origin = None;
        let granted = ruleset.rules.iter().filter_map(|rule| Some(rule.grant.as_ref()?.id.clone())).collect();
        Ok(Self {
            files,
            mode,
            ruleset,
            inventory,
            program,
            others,
            addresses,
            fingerprints,
            problems: Vec::new(),
            refused,
            granted,
            signed: Signed::default(),
            origin,
        })
    }
}

/// Of an address that an underlay interface has and must not have.
fn why_refused((address, holder): &(IpAddr, String)) -> String {
    format!(
        "{address} is an address of {holder}, and nothing passes to or from it on underlay interfaces; take it off the \
         interface, or out of there (of a node, `addresses` are on the overlay, `underlay` are not)"
    )
}

impl CompileOptions {
    const fn limits(&self) -> Limits {
        Limits { bytes: self.table_memory }
    }
}

impl OfRole {
    /// Compiles the venues' lanes. What is wrong goes to `findings`.
    fn exchange(
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
        let program = compile(&ruleset, inventory, &options.node, options.limits())
            .map_err(|error| refuse(format!("exchange interfaces: {error}")))?;
        Ok(Self { role: Role::Exchange, ruleset, program, inventory: None })
    }

    /// Compiles what is said on `lo`: by the overlay's rules. What is wrong goes to `findings`.
    fn local(
        ruleset: &Ruleset,
        inventory: &Inventory,
        options: &CompileOptions,
        findings: &mut Findings,
    ) -> Result<Self, ()> {
        let program = compile_loopback(ruleset, inventory, &options.node, options.limits())
            .map_err(|error| findings.push(Diagnostic::global(Severity::Error, format!("lo: {error}"))))?;
        Ok(Self { role: Role::Local, ruleset: ruleset.clone(), program, inventory: None })
    }

    /// Compiles what passes beneath the overlay. What is wrong goes to `findings`.
    fn underlay(rules: UnderlayRules, options: &CompileOptions, findings: &mut Findings) -> Result<Self, ()> {
        let UnderlayRules { ruleset, inventory, .. } = rules;
        let program = compile(&ruleset, &inventory, &options.node, options.limits()).map_err(|error| {
            findings.push(Diagnostic::global(Severity::Error, format!("underlay interfaces: {error}")));
        })?;
        Ok(Self { role: Role::Underlay, ruleset, program, inventory: Some(inventory) })
    }
}

impl Inputs {
    /// The tables of a role's interfaces.
    #[must_use]
    pub fn program_of(&self, role: Role) -> &Program {
        self.others.iter().find(|other| other.role == role).map_or(&self.program, |other| &other.program)
    }
}

/// Numbers the rules of all sets of tables through, so that they share counters and names.
fn number_through(first: &mut Program, others: &mut [OfRole]) {
    let mut offset = first.rules.len() as u32;
    for OfRole { program, .. } in &mut *others {
        let numbered = program.tables.cells.iter_mut().filter(|cell| cell.rule != NO_RULE);
        numbered.for_each(|cell| cell.rule += offset);
        offset += program.rules.len() as u32;
    }
    first.tables.rules = offset;
    others.iter_mut().for_each(|other| other.program.tables.rules = offset);
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
