//! The generation that runs, and the one move that replaces it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use bulkhead_abi::Leaf;
use bulkhead_api::status::RuleCount;
use bulkhead_dataplane::{
    Attached, Dataplane, HookLinks as _, Interface, Kernel, LoadedTables as _, Pins, QuarantineError, Seeded,
};
use bulkhead_events::Enricher;
use bulkhead_host::spare;
use bulkhead_policy::compile::{Basis, Program, Withdrawn, Workloads};
use bulkhead_policy::inventory::Inventory;

use crate::config::{Managed, Mode, Role};
use crate::daemon::clock::BootClock;
use crate::daemon::quarantine::list::List;
use crate::daemon::setup::Setup;
use crate::daemon::state::counters::Folded;
use crate::daemon::state::enricher::enricher;
use crate::daemon::state::inputs::{Inputs, OfRole};
use crate::daemon::state::member::{Arrival, Member};
use crate::daemon::state::role_tables::{BuildContext, RoleTables};
use crate::daemon::state::venues::{self, Venue};
use crate::daemon::state::watched::Watched;
use crate::daemon::store::Store;
use crate::daemon::workloads::Assigned;

/// The file in the state directory of the zones that interfaces' connections are tracked in.
pub const ZONES: &str = "zones.json";

/// A generation's staged, as the kernel has it.
pub struct StagedGeneration {
    /// Its number.
    pub number: u32,
    /// What its numbers mean.
    pub names: Arc<Enricher>,
}

/// A generation in the kernel: whole, accepted by the verifier, attached or not yet.
pub struct LoadedGeneration<D: Dataplane = Kernel> {
    pub(super) plane: D,
    /// Its number.
    pub number: u32,
    roles: Vec<RoleTables<D>>,
    clock: BootClock,
    /// Enforce or audit.
    pub mode: Mode,
    /// Who existed when it was made.
    pub inventory: Arc<Inventory>,
    /// What must not be reachable past the interfaces.
    pub venues: Vec<Venue>,
    /// What does not hold today though it is enforced.
    pub problems: Vec<String>,
    /// Addresses of underlay interfaces where nothing passes, and why, for status.
    pub refused: Vec<String>,
    /// Its rules' fingerprints.
    pub fingerprints: Vec<String>,
    /// What its numbers mean.
    pub names: Arc<Enricher>,
    /// What is watched of its rules.
    pub watched: Watched,
    /// The addresses of underlay interfaces that it was made for.
    pub addresses: BTreeSet<IpAddr>,
    /// Parts of this host that are identities of their own.
    pub workloads: Workloads,
    /// The grants that are among its rules, by their ids.
    pub granted: BTreeSet<String>,
    /// Who has signed what it was made from.
    pub signers: Vec<String>,
    /// The staged policy that observes beside it.
    pub staged: Option<StagedGeneration>,
}

impl<D: Dataplane> LoadedGeneration<D> {
    /// Makes a generation for the interfaces that are there, and others like them. Whoever is
    /// quarantined now, or not bound, is so in it. `attached` is what has been attached since the agent started.
    ///
    /// # Errors
    /// If the kernel refuses; then nothing is left of it.
    pub fn new(
        plane: &D,
        setup: &Setup,
        enforced: (u32, Inputs),
        staged: Option<(u32, Inputs)>,
        (quarantined, unbound): (&List, &BTreeSet<IpAddr>),
        indices: &Arc<Mutex<HashMap<u32, String>>>,
        attached: &[Attached],
    ) -> anyhow::Result<Self> {
        let (pins, number) = (&setup.paths.pins, enforced.0);
        let built = Self::build(plane, setup, enforced, staged, (quarantined, unbound), indices, attached);
        if built.is_err() {
            // The first error is the one to tell.
            let _ = plane.remove_generation(pins, number);
        }
        built
    }

    fn build(
        plane: &D,
        setup: &Setup,
        enforced: (u32, Inputs),
        staged: Option<(u32, Inputs)>,
        (quarantined, unbound): (&List, &BTreeSet<IpAddr>),
        indices: &Arc<Mutex<HashMap<u32, String>>>,
        attached: &[Attached],
    ) -> anyhow::Result<Self> {
        let (number, inputs) = enforced;
        let managed = setup.config.interfaces.iter();
        let there = managed.filter_map(|managed| {
            let found = plane.interface(&managed.name).ok()?;
            Some(Member::new(found, managed.clone(), attached))
        });
        let mut there: Vec<Member> = there.collect();
        anyhow::ensure!(!there.is_empty(), "none of the managed interfaces is there");
        there.iter().try_for_each(Member::refuse_kind)?;
        let names = Arc::new(enricher(&inputs, indices.clone(), &setup.config));
        let staged_generation = staged.as_ref().map(|(number, inputs)| StagedGeneration {
            number: *number,
            names: Arc::new(enricher(inputs, indices.clone(), &setup.config)),
        });
        let mut staged: BTreeMap<Role, (u32, Program)> = staged
            .into_iter()
            .flat_map(|(number, inputs)| {
                let others = inputs.others.into_iter().map(|other| (other.role, other.program));
                let all = std::iter::once((Role::Overlay, inputs.program)).chain(others);
                all.map(move |(role, program)| (role, (number, program)))
            })
            .collect();
        let clock = BootClock::now();
        let context = BuildContext {
            plane,
            setup,
            number,
            mode: inputs.mode,
            quarantined: quarantined.addresses().into_iter().collect(),
            unbound: unbound.clone(),
            clock: &clock,
            assigned: setup.workloads.assigned(&inputs.program.workloads)?,
        };
        let venues = venues::of(&inputs.ruleset);
        let workloads = inputs.program.workloads.clone();
        let watched = Watched::of(&inputs, &setup.options.node);
        let overlay =
            OfRole { role: Role::Overlay, ruleset: inputs.ruleset, program: inputs.program, inventory: None };
        let mut roles = Vec::new();
        // Cells number the rules of all sets of tables through.
        let mut first = 0;
        for OfRole { role, ruleset, program, .. } in std::iter::once(overlay).chain(inputs.others) {
            let basis = Basis::new(ruleset, &program, first);
            first += program.rules.len() as u32;
            let members: Vec<_> = there.extract_if(.., |member| member.managed.role == role).collect();
            if !members.is_empty() {
                roles.push(RoleTables::new(&context, role, (program, basis), staged.remove(&role), members)?);
            }
        }
        if let Some(left) = there.first() {
            anyhow::bail!("interface {}: its role has no tables", left.interface.name);
        }
        Ok(Self {
            plane: plane.clone(),
            number,
            roles,
            clock,
            mode: inputs.mode,
            inventory: Arc::new(inputs.inventory),
            venues,
            problems: inputs.problems,
            refused: inputs.refused,
            fingerprints: inputs.fingerprints,
            names,
            watched,
            addresses: inputs.addresses,
            workloads,
            granted: inputs.granted,
            signers: inputs.signed.signers,
            staged: staged_generation,
        })
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.roles.iter().flat_map(|role| &role.members)
    }

    /// Its interfaces.
    pub fn interfaces(&mut self) -> impl Iterator<Item = &mut Interface> {
        self.roles.iter_mut().flat_map(|role| &mut role.members).map(|member| &mut member.interface)
    }

    /// The zones that the connections of its interfaces are tracked in.
    pub fn zones(&self) -> BTreeMap<String, u16> {
        self.members().map(|member| (member.interface.name.clone(), member.zone())).collect()
    }

    /// Notes them for the next start.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn save_zones(&self, store: &Store) -> anyhow::Result<()> {
        store.save(ZONES, &self.zones())
    }

    /// Records the host's open TCP connections as flows of these zones, and those that it forwards as
    /// far as they are known, so that a first attach cuts none that the policy admits. Returns how many
    /// there are.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn seed(&mut self, zones: &BTreeSet<u16>) -> anyhow::Result<usize> {
        let zones: Vec<u16> = zones.iter().copied().collect();
        let Seeded { connections, refused } = self.any_tables()?.seed(&zones)?;
        if refused != 0 {
            tracing::warn!(refused, "the table of flows is too small for this host's connections");
        }
        Ok(connections)
    }

    /// The tables of one role: state is shared by all.
    ///
    /// # Errors
    /// If there is none.
    pub fn any_tables(&mut self) -> anyhow::Result<&mut D::Tables> {
        let role = self.roles.first_mut().context("a generation without tables")?;
        Ok(&mut role.tables)
    }

    /// Puts the programs on every hook, and detaches from hooks that they are not on any more.
    ///
    /// # Errors
    /// If one refuses. Those before it have the new program.
    pub fn attach(&mut self, pins: &Pins, links: &mut D::Links) -> anyhow::Result<Vec<Attached>> {
        let mut attached = Vec::new();
        for role in &mut self.roles {
            for member in &mut role.members {
                let now = member.attach(&mut role.tables, pins, links)?;
                attached
                    .push(now.with_context(|| format!("interface {}: no programs", member.interface.name))?);
            }
        }
        links.detach_former(&attached, pins)?;
        Ok(attached)
    }

    /// Puts programs that are loaded on an interface that has come, or come back under another index.
    ///
    /// # Errors
    /// If a hook refuses, or the interface cannot be enforced on as agent.toml has it.
    pub fn attach_again(
        &mut self,
        interface: &Interface,
        managed: &Managed,
        pins: &Pins,
        links: &mut D::Links,
    ) -> anyhow::Result<Arrival> {
        let _lent = spare::lend();
        let Some(role) = self.roles.iter_mut().find(|role| role.role == managed.role) else {
            return Ok(Arrival::NeedsGeneration);
        };
        let mut member = Member::new(interface.clone(), managed.clone(), &[]);
        member.refuse_rates(role.has_packet_rates)?;
        let Some(attached) = member.attach(&mut role.tables, pins, links)? else {
            return Ok(Arrival::NeedsGeneration);
        };
        links.detach_former(std::slice::from_ref(&attached), pins)?;
        role.members.retain(|known| known.interface.name != interface.name);
        role.members.push(member);
        Ok(Arrival::Attached(attached))
    }

    /// Pins again what somebody has removed the pins of.
    ///
    /// # Errors
    /// If bpffs refuses.
    pub fn keep_pinned(&self, pins: &Pins) -> anyhow::Result<()> {
        for role in &self.roles {
            // Not where its maps lay until they took another map ABI's place.
            if role.tables.keep_pinned(&role.role.pins(pins))? {
                tracing::warn!(pins = %pins.root().display(), "pins were removed, and are made again");
            }
        }
        Ok(())
    }

    /// Whether an address is a group of this node's feeds, by the tables of exchange interfaces.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn is_feeds(&self, group: IpAddr) -> anyhow::Result<bool> {
        let exchange = self.roles.iter().find(|role| role.role == Role::Exchange);
        Ok(exchange.map(|role| role.tables.leaf(group)).transpose()?.is_some_and(Leaf::own))
    }

    /// Cuts an address off, or takes that back.
    ///
    /// # Errors
    /// See [`LoadedTables::set_quarantine`](bulkhead_dataplane::LoadedTables::set_quarantine).
    pub fn set_quarantine(&mut self, address: IpAddr, on: bool) -> Result<(), QuarantineError> {
        let mut done = Ok(());
        // A set without room left must not keep the others from it.
        for role in &mut self.roles {
            done = done.and(role.tables.set_quarantine(address, on));
        }
        done
    }

    /// The addresses that are not bound to their keys in it.
    pub fn unbound(&self) -> BTreeSet<IpAddr> {
        self.roles.iter().flat_map(RoleTables::unbound).collect()
    }

    /// Makes these addresses, and no others, ones that nobody has: what came of each that was not so.
    pub fn set_unbound(&mut self, wanted: &BTreeSet<IpAddr>) -> Vec<Result<(), QuarantineError>> {
        // Keys say nothing of the networks beneath.
        let overlay = self.roles.iter_mut().find(|role| role.role == Role::Overlay);
        overlay.map(|role| role.set_unbound(wanted)).unwrap_or_default()
    }

    /// What the tables of each role were compiled from.
    pub fn bases(&self) -> Vec<(Role, Arc<Basis>)> {
        self.roles.iter().map(|role| (role.role, role.basis.clone())).collect()
    }

    /// Ends at once what a change takes away, before the tables are there that do not have it.
    ///
    /// # Errors
    /// If the kernel refuses; what was taken away until then stays so.
    pub fn withdraw(&mut self, withdrawn: &[(Role, Withdrawn)]) -> Result<(), QuarantineError> {
        withdrawn.iter().try_for_each(|(role, withdrawn)| {
            let tables = self.roles.iter_mut().find(|tables| tables.role == *role);
            tables.map_or(Ok(()), |tables| tables.withdraw(withdrawn))
        })
    }

    /// Gives that back: the change is not made.
    ///
    /// # Errors
    /// If the kernel refuses; the next call tries again.
    pub fn give_back(&mut self) -> Result<(), QuarantineError> {
        self.roles.iter_mut().try_for_each(RoleTables::give_back)
    }

    /// Whether something is taken away.
    pub fn is_withdrawn(&self) -> bool {
        self.roles.iter().any(RoleTables::is_withdrawn)
    }

    /// Says which cgroups workloads are, from the next packet on.
    ///
    /// # Errors
    /// If the tables are broken.
    pub fn set_workloads(&mut self, assigned: &Assigned) -> Result<(), QuarantineError> {
        self.roles.iter_mut().try_for_each(|role| role.set_workloads(assigned))
    }

    /// Writes the deadlines anew if the wall clock was set; by how many seconds.
    ///
    /// # Errors
    /// If the kernel refuses; the next call tries again.
    pub fn follow_clock(&mut self, now: BootClock) -> anyhow::Result<Option<f64>> {
        if !self.clock.was_set(&now) {
            return Ok(None);
        }
        for role in &self.roles {
            for (deadlines, is_staged) in [(&role.deadlines, false), (&role.staged_deadlines, true)] {
                let deadlines: Vec<u64> = deadlines.iter().map(|deadline| now.deadline(*deadline)).collect();
                self.plane.rewrite_deadlines(&role.pins, self.number, &deadlines, is_staged)?;
            }
        }
        let by = self.clock.seconds_until(&now);
        self.clock = now;
        Ok(Some(by))
    }

    /// Ends rules at once whose deadlines are these, in ns since the Unix epoch. Of a staged policy as well.
    ///
    /// # Errors
    /// If the kernel refuses; the next call tries again.
    pub fn end_deadlines(&mut self, ended: &[u64]) -> anyhow::Result<()> {
        let clock = self.clock;
        for role in &mut self.roles {
            for (deadlines, is_staged) in [(&mut role.deadlines, false), (&mut role.staged_deadlines, true)] {
                let is_ended = |deadline: &u64| ended.contains(deadline);
                let left: Vec<u64> =
                    deadlines.iter().map(|deadline| if is_ended(deadline) { 1 } else { *deadline }).collect();
                if left == *deadlines {
                    continue;
                }
                let written: Vec<u64> = left.iter().map(|deadline| clock.deadline(*deadline)).collect();
                self.plane.rewrite_deadlines(&role.pins, self.number, &written, is_staged)?;
                *deadlines = left;
            }
        }
        Ok(())
    }

    /// Counters by rule.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn counts(&self, pins: &Pins, folded: &Folded) -> anyhow::Result<Vec<RuleCount>> {
        let (fingerprints, rules) = (&self.fingerprints, self.names.rules());
        folded.read(&self.plane, pins, self.number, fingerprints, rules, &self.watched.tls)
    }
}

/// Sums up what came of giving addresses to tables that run: true if some need another generation.
///
/// # Errors
/// If the kernel has refused one.
pub fn is_stuck(
    written: impl IntoIterator<Item = Result<(), QuarantineError>>,
) -> Result<bool, QuarantineError> {
    let (mut is_stuck, mut refused) = (false, None);
    for written in written {
        match written {
            Ok(()) => {}
            Err(QuarantineError::Full | QuarantineError::Broken) => is_stuck = true,
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or(Ok(is_stuck), Err)
}
