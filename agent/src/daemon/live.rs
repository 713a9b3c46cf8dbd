//! The generation that runs, and the one move that replaces it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use bulkhead::kernel::{
    AddressTables, Attached, Generation, Hook, Interface, Pins, QuarantineError, Shadow, Specification,
    attach, attached_hooks, connections, flow_clock, quarantine_tables, rewrite_deadlines, rule_counters,
    seed, wait_for_programs,
};
use bulkhead_compiler::inventory::Inventory;
use bulkhead_engine::memory::Tables;

use super::clock::BootClock;
use super::counters::{self, Folded, RuleCount};
use super::inputs::Inputs;
use super::names::Names;
use super::quarantine::List;
use super::setup::Setup;
use super::shadow::Observing;
use super::store::Store;
use crate::config::{Managed, Mode};

/// A generation in the kernel: whole, accepted by the verifier, attached or not yet.
pub struct Built {
    /// Its number.
    pub number: u32,
    generation: Generation,
    tables: AddressTables,
    /// Deadlines, ns since the Unix epoch.
    deadlines: Vec<u64>,
    clock: BootClock,
    interfaces: Vec<(Interface, Managed)>,
    /// Enforce or audit.
    pub mode: Mode,
    /// Who existed when it was made.
    pub inventory: Inventory,
    /// Its rules' fingerprints.
    pub fingerprints: Vec<String>,
    /// What its numbers mean.
    pub names: Arc<Names>,
    /// The candidate that observes beside it.
    pub shadow: Option<Observing>,
}

impl Built {
    /// Makes a generation of the interfaces that are there. Whoever is quarantined now is so in it.
    ///
    /// # Errors
    /// If the kernel refuses; then nothing is left of it.
    pub fn new(
        setup: &Setup,
        number: u32,
        inputs: Inputs,
        shadow: Option<(u32, Inputs)>,
        quarantined: &List,
        indices: &Arc<Mutex<HashMap<u32, String>>>,
    ) -> anyhow::Result<Self> {
        let interfaces: Vec<(Interface, Managed)> = setup
            .config
            .interfaces
            .iter()
            .filter_map(|managed| Interface::find(&managed.name).ok().map(|found| (found, managed.clone())))
            .collect();
        anyhow::ensure!(!interfaces.is_empty(), "none of the managed interfaces is there");
        let names = Names::new(&inputs, indices.clone());
        let mut tables = inputs.program.tables;
        let clock = BootClock::now();
        let deadlines = on_boot_clock(&mut tables, &clock);
        let mut shadow = shadow.map(|(number, inputs)| {
            let names = Arc::new(Names::new(&inputs, indices.clone()));
            let mut tables = inputs.program.tables;
            let deadlines = on_boot_clock(&mut tables, &clock);
            (Observing { number, deadlines, names }, tables)
        });
        let addresses: Vec<_> = quarantined.addresses().into_iter().collect();
        quarantine_tables(&mut tables, &addresses)?;
        let specification = Specification {
            audit: inputs.mode == Mode::Audit,
            capacity: setup.config.capacity,
            shadow: shadow.as_ref().map(|(shadow, tables)| Shadow { number: shadow.number, tables }),
            ..Specification::new(number, &tables, setup.config.timeouts)
        };
        let zones: Vec<_> =
            interfaces.iter().map(|(found, managed)| (found.clone(), managed.zone(found.kind))).collect();
        let pins = &setup.paths.pins;
        let generation = Generation::build(&specification, &zones, Some(pins))?;
        let address_tables = match AddressTables::open(pins, number, tables.trie.len()) {
            Ok(opened) => opened,
            Err(error) => {
                // The first error is the one to tell.
                let _ = pins.remove_generation(number);
                return Err(error.into());
            }
        };
        Ok(Self {
            number,
            generation,
            tables: address_tables,
            deadlines,
            clock,
            interfaces,
            mode: inputs.mode,
            inventory: inputs.inventory,
            fingerprints: inputs.fingerprints,
            names: Arc::new(names),
            shadow: shadow.take().map(|(shadow, _)| shadow),
        })
    }

    /// Records the host's open TCP connections as flows, so that a first attach cuts none that
    /// the policy admits. Returns how many there are.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn seed(&self, pins: &Pins) -> anyhow::Result<usize> {
        let mut zones: Vec<u16> =
            self.interfaces.iter().map(|(found, managed)| managed.zone(found.kind)).collect();
        zones.sort_unstable();
        zones.dedup();
        Ok(seed(pins, &connections()?, &zones, flow_clock())?)
    }

    /// Puts the programs on every hook.
    ///
    /// # Errors
    /// If one refuses. Those before it have the new program.
    pub fn attach(&mut self, pins: &Pins) -> anyhow::Result<Vec<Attached>> {
        let mut attached = Vec::new();
        for (interface, managed) in &self.interfaces {
            attached.push(attach(&mut self.generation, interface, managed.ingress(interface.kind), pins)?);
        }
        Ok(attached)
    }

    /// Puts the program of one interface on it again, under the index that it has now.
    ///
    /// # Errors
    /// If there is no program for it, or the hook refuses.
    pub fn attach_again(&mut self, interface: &Interface, pins: &Pins) -> anyhow::Result<Attached> {
        let known = self.interfaces.iter_mut().find(|(known, _)| known.name == interface.name);
        let (known, managed) =
            known.filter(|(known, _)| known.kind == interface.kind).context("it needs another program")?;
        *known = interface.clone();
        Ok(attach(&mut self.generation, interface, managed.ingress(interface.kind), pins)?)
    }

    /// Cuts an address off, or takes that back.
    ///
    /// # Errors
    /// See [`AddressTables::set`].
    pub fn set_quarantine(&mut self, address: std::net::IpAddr, on: bool) -> Result<(), QuarantineError> {
        self.tables.set(address, on)
    }

    /// Writes the deadlines anew if the wall clock was set; by how many seconds.
    ///
    /// # Errors
    /// If the kernel refuses; the next call tries again.
    pub fn follow_clock(&mut self, pins: &Pins, now: BootClock) -> anyhow::Result<Option<f64>> {
        if !self.clock.was_set(&now) {
            return Ok(None);
        }
        let deadlines: Vec<u64> = self.deadlines.iter().map(|deadline| now.deadline(*deadline)).collect();
        rewrite_deadlines(pins, self.number, &deadlines, false)?;
        if let Some(shadow) = &self.shadow {
            let deadlines: Vec<u64> =
                shadow.deadlines.iter().map(|deadline| now.deadline(*deadline)).collect();
            rewrite_deadlines(pins, self.number, &deadlines, true)?;
        }
        let by = self.clock.seconds_until(&now);
        self.clock = now;
        Ok(Some(by))
    }

    /// Counters by rule.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn counts(&self, pins: &Pins, folded: &Folded) -> anyhow::Result<Vec<RuleCount>> {
        folded.read(pins, self.number, &self.fingerprints, self.names.rules())
    }
}

/// Turns the tables' deadlines from ns since the Unix epoch into ns since boot; returns them as they were.
fn on_boot_clock(tables: &mut Tables, clock: &BootClock) -> Vec<u64> {
    let deadlines = tables.deadlines.clone();
    tables.deadlines.iter_mut().skip(1).for_each(|deadline| *deadline = clock.deadline(*deadline));
    deadlines
}

/// Folds the counters of every generation but `running` and frees their tables. Only for
/// generations that no hook runs any more.
pub fn retire(pins: &Pins, store: &Store, folded: &mut Folded, running: &Built) {
    let old: Vec<u32> = pins.generations().unwrap_or_default();
    let old: Vec<u32> = old.into_iter().filter(|other| *other != running.number).collect();
    if old.is_empty() {
        return;
    }
    // A packet may still be under way in an old program.
    if let Err(error) = wait_for_programs() {
        tracing::warn!("the last packets of an old generation may be missing in rule counters: {error}");
    }
    let mut kept = Vec::new();
    for number in &old {
        let Some((_, made)) = store.kept(*number) else { continue };
        match rule_counters(pins, *number, made.fingerprints.len()) {
            Ok(counters) => folded.fold(*number, &made.fingerprints, &counters),
            Err(error) => tracing::warn!("rule counters of generation {number} are lost: {error}"),
        }
        kept.push(made.fingerprints);
    }
    let mut known: Vec<&[String]> = kept.iter().map(Vec::as_slice).collect();
    known.push(&running.fingerprints);
    folded.keep(&known, &old);
    if let Err(error) = store.save(counters::FILE, folded) {
        tracing::warn!("rule counters may be lost with the agent: {error:#}");
    }
    for number in old {
        if let Err(error) = pins.remove_generation(number) {
            tracing::warn!("generation {number} stays in memory: {error}");
        }
    }
}

/// Removes links that were not there `before`.
pub fn undo_new_links(pins: &Pins, before: &[(String, Hook)]) {
    for (interface, hook) in attached_hooks(pins).unwrap_or_default() {
        if !before.contains(&(interface.clone(), hook)) {
            // An error here is followed by one that is told.
            let _ = std::fs::remove_file(pins.link(&interface, hook));
        }
    }
}
