//! The generation that runs, and the one move that replaces it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use bulkhead::kernel::{
    AddressTables, Attached, Generation, Hook, Importer, Interface, Kind, Pins, QuarantineError, Shadow,
    Specification, attach, attached_hooks, connections, flow_clock, quarantine_tables, rewrite_deadlines,
    rule_counters, seed, wait_for_programs,
};
use bulkhead_compiler::compile::Program;
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
use super::venues::{self, Venue};
use crate::config::{Managed, Mode, Role};

/// A generation in the kernel: whole, accepted by the verifier, attached or not yet.
pub struct Built {
    /// Its number.
    pub number: u32,
    sets: Vec<TableSet>,
    clock: BootClock,
    /// Enforce or audit.
    pub mode: Mode,
    /// Who existed when it was made.
    pub inventory: Inventory,
    /// What must not be reachable past the interfaces.
    pub venues: Vec<Venue>,
    /// What does not hold today though it is enforced.
    pub problems: Vec<String>,
    /// Its rules' fingerprints.
    pub fingerprints: Vec<String>,
    /// What its numbers mean.
    pub names: Arc<Names>,
    /// The candidate that observes beside it.
    pub shadow: Option<Observing>,
}

/// The tables of one role, and the programs of its interfaces.
struct TableSet {
    pins: Pins,
    generation: Generation,
    tables: AddressTables,
    /// Deadlines, ns since the Unix epoch.
    deadlines: Vec<u64>,
    /// The shadow's.
    shadow_deadlines: Vec<u64>,
    interfaces: Vec<(Interface, Managed)>,
}

/// What all sets of a generation have in common.
struct Common<'a> {
    setup: &'a Setup,
    number: u32,
    mode: Mode,
    quarantined: Vec<IpAddr>,
    clock: &'a BootClock,
}

impl TableSet {
    fn new(
        common: &Common,
        pins: Pins,
        program: Program,
        shadow: Option<(u32, Program)>,
        interfaces: Vec<(Interface, Managed)>,
    ) -> anyhow::Result<Self> {
        let Common { setup, number, .. } = *common;
        let mut tables = program.tables;
        let deadlines = on_boot_clock(&mut tables, common.clock);
        let mut shadow = shadow.map(|(number, program)| (number, program.tables));
        let shadow_deadlines =
            shadow.as_mut().map(|(_, tables)| on_boot_clock(tables, common.clock)).unwrap_or_default();
        refuse_rates_at_xdp(&tables, &interfaces)?;
        quarantine_tables(&mut tables, &common.quarantined)?;
        let link = |managed: &Managed| managed.link.iter().fold(0, |bits, link| bits | link.bit());
        let specification = Specification {
            audit: common.mode == Mode::Audit,
            capacity: setup.config.capacity,
            shadow: shadow.as_ref().map(|(number, tables)| Shadow { number: *number, tables }),
            new_flows: setup.config.new_flows,
            event_budget: setup.config.event_budget,
            links: interfaces.iter().map(|(found, managed)| (found.name.clone(), link(managed))).collect(),
            ..Specification::new(number, &tables, setup.config.timeouts)
        };
        let zones: Vec<_> =
            interfaces.iter().map(|(found, managed)| (found.clone(), managed.zone(found.kind))).collect();
        let generation = Generation::build(&specification, &zones, Some(&pins))?;
        let tables = AddressTables::open(&pins, number)?;
        Ok(Self { pins, generation, tables, deadlines, shadow_deadlines, interfaces })
    }
}

/// Generic XDP sees merged packets as one and not of how many, so that no packet rate would hold.
fn refuse_rates_at_xdp(tables: &Tables, interfaces: &[(Interface, Managed)]) -> anyhow::Result<()> {
    let at_xdp = |(found, managed): &&(Interface, Managed)| {
        found.kind == Kind::BareIp && managed.ingress(found.kind).contains(&Hook::XdpGeneric)
    };
    match interfaces.iter().find(at_xdp) {
        Some((found, _)) if tables.limits.iter().any(|limit| limit.packets.interval != 0) => anyhow::bail!(
            "interface {}: the policy has packet rates, which cannot hold at hook xdp, where merged packets \
             count as one; use hook = \"tcx\" (the default)",
            found.name
        ),
        _ => Ok(()),
    }
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
        let pins = &setup.paths.pins;
        let built = Self::build(setup, number, inputs, shadow, quarantined, indices);
        if built.is_err() {
            // The first error is the one to tell.
            let _ = pins.remove_generation(number);
        }
        built
    }

    fn build(
        setup: &Setup,
        number: u32,
        inputs: Inputs,
        shadow: Option<(u32, Inputs)>,
        quarantined: &List,
        indices: &Arc<Mutex<HashMap<u32, String>>>,
    ) -> anyhow::Result<Self> {
        let managed = setup.config.interfaces.iter();
        let there = managed
            .filter_map(|managed| Interface::find(&managed.name).ok().map(|found| (found, managed.clone())));
        let (exchange, overlay): (Vec<_>, Vec<_>) =
            there.partition(|(_, managed)| managed.role == Role::Exchange);
        anyhow::ensure!(
            !(overlay.is_empty() && exchange.is_empty()),
            "none of the managed interfaces is there"
        );
        if let Some((bare, _)) = exchange.iter().find(|(found, _)| found.kind != Kind::Ethernet) {
            anyhow::bail!(
                "interface {}: role = \"exchange\" is for Ethernet interfaces; remove it from agent.toml",
                bare.name
            );
        }
        let names = Arc::new(Names::new(&inputs, indices.clone()));
        let observing = shadow.as_ref().map(|(number, inputs)| Observing {
            number: *number,
            names: Arc::new(Names::new(inputs, indices.clone())),
        });
        let (shadow_overlay, shadow_exchange) = shadow
            .map(|(number, inputs)| {
                ((number, inputs.program), inputs.exchange.map(|exchange| (number, exchange.program)))
            })
            .unzip();
        let clock = BootClock::now();
        let common = Common {
            setup,
            number,
            mode: inputs.mode,
            quarantined: quarantined.addresses().into_iter().collect(),
            clock: &clock,
        };
        let venues = venues::of(&inputs.ruleset);
        let pins = &setup.paths.pins;
        let mut sets = Vec::new();
        if !overlay.is_empty() {
            sets.push(TableSet::new(&common, pins.clone(), inputs.program, shadow_overlay, overlay)?);
        }
        if !exchange.is_empty() {
            let program = inputs.exchange.context("exchange interfaces have no tables")?.program;
            let shadow = shadow_exchange.flatten();
            sets.push(TableSet::new(&common, pins.exchange(), program, shadow, exchange)?);
        }
        Ok(Self {
            number,
            sets,
            clock,
            mode: inputs.mode,
            inventory: inputs.inventory,
            venues,
            problems: inputs.problems,
            fingerprints: inputs.fingerprints,
            names,
            shadow: observing,
        })
    }

    fn interfaces(&self) -> impl Iterator<Item = &(Interface, Managed)> {
        self.sets.iter().flat_map(|set| &set.interfaces)
    }

    /// The indices of its interfaces.
    pub fn indices(&self) -> Vec<u32> {
        self.interfaces().map(|(found, _)| found.index).collect()
    }

    /// The zones that the connections of its interfaces are tracked in.
    pub fn zones(&self) -> BTreeMap<String, u16> {
        self.interfaces().map(|(found, managed)| (found.name.clone(), managed.zone(found.kind))).collect()
    }

    /// Records the host's open TCP connections as flows of these zones, so that a first attach
    /// cuts none that the policy admits. Returns how many there are.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn seed(&mut self, zones: &BTreeSet<u16>) -> anyhow::Result<usize> {
        let zones: Vec<u16> = zones.iter().copied().collect();
        let connections = connections()?;
        let refused = seed(&mut self.importer()?, &connections, &zones, flow_clock())?;
        if refused != 0 {
            tracing::warn!(refused, "the table of flows is too small for this host's connections");
        }
        Ok(connections.len())
    }

    /// The program that stores flows.
    ///
    /// # Errors
    /// If the verifier refuses it.
    pub fn importer(&mut self) -> anyhow::Result<Importer<'_>> {
        let set = self.sets.first_mut().context("a generation without tables")?;
        Ok(set.generation.importer()?)
    }

    /// Puts the programs on every hook.
    ///
    /// # Errors
    /// If one refuses. Those before it have the new program.
    pub fn attach(&mut self, pins: &Pins) -> anyhow::Result<Vec<Attached>> {
        let mut attached = Vec::new();
        for set in &mut self.sets {
            for (interface, managed) in &set.interfaces {
                let ingress = managed.ingress(interface.kind);
                attached.push(attach(&mut set.generation, interface, ingress, pins)?);
            }
        }
        Ok(attached)
    }

    /// Puts the program of one interface on it again, under the index that it has now.
    ///
    /// # Errors
    /// If there is no program for it, or the hook refuses.
    pub fn attach_again(&mut self, interface: &Interface, pins: &Pins) -> anyhow::Result<Attached> {
        let is_same = |known: &Interface| known.name == interface.name && known.kind == interface.kind;
        for set in &mut self.sets {
            if let Some((known, managed)) = set.interfaces.iter_mut().find(|(known, _)| is_same(known)) {
                *known = interface.clone();
                return Ok(attach(&mut set.generation, interface, managed.ingress(interface.kind), pins)?);
            }
        }
        anyhow::bail!("it needs another program")
    }

    /// Cuts an address off, or takes that back.
    ///
    /// # Errors
    /// See [`AddressTables::set`].
    pub fn set_quarantine(&mut self, address: IpAddr, on: bool) -> Result<(), QuarantineError> {
        let mut done = Ok(());
        // A set without room left must not keep the others from it.
        for set in &mut self.sets {
            done = done.and(set.tables.set(address, on));
        }
        done
    }

    /// Writes the deadlines anew if the wall clock was set; by how many seconds.
    ///
    /// # Errors
    /// If the kernel refuses; the next call tries again.
    pub fn follow_clock(&mut self, now: BootClock) -> anyhow::Result<Option<f64>> {
        if !self.clock.was_set(&now) {
            return Ok(None);
        }
        for set in &self.sets {
            for (deadlines, is_shadow) in [(&set.deadlines, false), (&set.shadow_deadlines, true)] {
                let deadlines: Vec<u64> = deadlines.iter().map(|deadline| now.deadline(*deadline)).collect();
                rewrite_deadlines(&set.pins, self.number, &deadlines, is_shadow)?;
            }
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
