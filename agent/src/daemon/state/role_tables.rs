//! The tables of one role of a generation, and the programs that its interfaces share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_abi::{Leaf, Workload};
use bulkhead_dataplane::{
    ADMITS_NOTHING, Dataplane, LoadedTables as _, Pins, QuarantineError, Specification, Staged,
    quarantine_tables, replace_leaves,
};
use bulkhead_engine::memory::Tables;
use bulkhead_policy::compile::{Basis, Program, Unbound, Withdrawn, Workloads};

use crate::config::{Mode, Role};
use crate::daemon::clock::BootClock;
use crate::daemon::setup::Setup;
use crate::daemon::state::member;
use crate::daemon::state::member::Member;
use crate::daemon::workloads::Assigned;

/// The tables of one role, and the programs that its interfaces share.
pub struct RoleTables<D: Dataplane> {
    pub pins: Pins,
    pub tables: D::Tables,
    /// Deadlines, ns since the Unix epoch.
    pub deadlines: Vec<u64>,
    /// The staged's.
    pub staged_deadlines: Vec<u64>,
    pub role: Role,
    pub has_packet_rates: bool,
    pub members: Vec<Member>,
    workloads: Workloads,
    /// Which cgroups these are in the tables.
    assigned: Assigned,
    unbound: Unbound,
    /// What the addresses that are not bound have while they are.
    bound_leaves: BTreeMap<IpAddr, Leaf>,
    /// What they were compiled from.
    pub basis: Arc<Basis>,
    /// What was taken away of them ahead of a change, as it was before.
    withdrawn: Before,
}

/// Addresses, points of the axis of ports and cells, as tables had them.
#[derive(Default)]
struct Before {
    leaves: Vec<(IpAddr, Leaf)>,
    ports: Vec<(u32, u16)>,
    cells: Vec<(u32, u32)>,
}

/// What the tables of all roles of a generation are built with.
pub struct BuildContext<'a, D> {
    pub plane: &'a D,
    pub setup: &'a Setup,
    pub number: u32,
    pub mode: Mode,
    pub quarantined: Vec<IpAddr>,
    pub unbound: BTreeSet<IpAddr>,
    pub clock: &'a BootClock,
    /// Which cgroups workloads are.
    pub assigned: Assigned,
}

impl<D: Dataplane> RoleTables<D> {
    pub fn new(
        context: &BuildContext<D>,
        role: Role,
        (program, basis): (Program, Basis),
        staged: Option<(u32, Program)>,
        members: Vec<Member>,
    ) -> anyhow::Result<Self> {
        let BuildContext { plane, setup, number, .. } = *context;
        let Program { mut tables, unbound, workloads, .. } = program;
        for (class, workload) in classes(&workloads, &context.assigned) {
            if let Some(entry) = tables.workloads.get_mut(class as usize) {
                *entry = workload;
            }
        }
        let bound_leaves = match role {
            Role::Overlay => unbind(&mut tables, &unbound, &context.unbound)?,
            // Keys say nothing of the networks beneath.
            // On lo there are this host's addresses alone.
            Role::Exchange | Role::Underlay | Role::Local => BTreeMap::new(),
        };
        let deadlines = as_now(&mut tables, context.clock, &context.quarantined)?;
        let mut staged = staged.map(|(number, program)| (number, program.tables));
        let staged_deadlines = staged
            .as_mut()
            .map(|(_, tables)| as_now(tables, context.clock, &[]))
            .transpose()?
            .unwrap_or_default();
        let has_packet_rates = member::has_packet_rates(&tables);
        members.iter().try_for_each(|member| member.refuse_rates(has_packet_rates))?;
        let specification = Specification {
            audit: context.mode == Mode::Audit,
            capacity: setup.config.capacity,
            staged: staged.as_ref().map(|(number, tables)| Staged { number: *number, tables }),
            new_flows: setup.config.new_flows,
            event_budget: setup.config.event_budget,
            allowed: setup.config.allowed,
            forwarded_until: setup.forwarded_until,
            ..Specification::new(number, &tables, setup.config.timeouts)
        };
        let instance = &setup.paths.pins;
        let pins = role.pins(instance);
        let groups = member::groups(plane, &members, instance)?;
        let tables = plane.load(&specification, &groups, &pins)?;
        Ok(Self {
            pins,
            tables,
            deadlines,
            staged_deadlines,
            role,
            has_packet_rates,
            members,
            workloads,
            assigned: context.assigned.clone(),
            unbound,
            bound_leaves,
            basis: Arc::new(basis),
            withdrawn: Before::default(),
        })
    }

    /// Ends at once what the tables to come do not admit.
    ///
    /// # Errors
    /// If the kernel refuses; what was taken away until then stays so.
    pub fn withdraw(&mut self, withdrawn: &Withdrawn) -> Result<(), QuarantineError> {
        for address in &withdrawn.addresses {
            let (leaf, nobody) = (self.tables.leaf(*address)?, self.unbound.leaf(*address));
            if leaf.own() || self.bound_leaves.contains_key(address) {
                continue;
            }
            match self.tables.set_leaf(*address, nobody) {
                Ok(()) => self.withdrawn.leaves.push((*address, leaf)),
                // The tables to come have room.
                Err(QuarantineError::Full) => {}
                Err(error) => return Err(error),
            }
        }
        for point in withdrawn.ports.iter().flat_map(|(first, last)| *first..=*last) {
            let before = self.tables.port_class(point)?;
            self.tables.set_port_class(point, 0)?;
            self.withdrawn.ports.push((point, before));
        }
        for cell in &withdrawn.cells {
            let before = self.tables.cell(*cell)?;
            self.tables.set_cell(*cell, ADMITS_NOTHING)?;
            self.withdrawn.cells.push((*cell, before));
        }
        Ok(())
    }

    /// Gives back what was taken away: the tables go on.
    ///
    /// # Errors
    /// If the kernel refuses; the next call tries again.
    pub fn give_back(&mut self) -> Result<(), QuarantineError> {
        while let Some((address, leaf)) = self.withdrawn.leaves.last().copied() {
            match self.bound_leaves.get_mut(&address) {
                // It has lost its key meanwhile.
                Some(bound) => *bound = leaf,
                None => self.tables.set_leaf(address, leaf)?,
            }
            self.withdrawn.leaves.pop();
        }
        while let Some((point, before)) = self.withdrawn.ports.last().copied() {
            self.tables.set_port_class(point, before)?;
            self.withdrawn.ports.pop();
        }
        while let Some((cell, before)) = self.withdrawn.cells.last().copied() {
            self.tables.set_cell(cell, before)?;
            self.withdrawn.cells.pop();
        }
        Ok(())
    }

    /// Whether something is taken away.
    pub fn is_withdrawn(&self) -> bool {
        let Before { leaves, ports, cells } = &self.withdrawn;
        !(leaves.is_empty() && ports.is_empty() && cells.is_empty())
    }

    /// The addresses that are not bound in these tables.
    pub fn unbound(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.bound_leaves.keys().copied()
    }

    /// Makes these addresses, and no others, ones that nobody has: what came of each that was not so.
    pub fn set_unbound(&mut self, wanted: &BTreeSet<IpAddr>) -> Vec<Result<(), QuarantineError>> {
        let bind: Vec<_> = self.unbound().filter(|address| !wanted.contains(address)).collect();
        let unbind = wanted.iter().filter(|address| !self.bound_leaves.contains_key(address));
        let unbind: Vec<_> = unbind.copied().collect();
        let unbound = unbind.into_iter().map(|address| self.unbind(address)).collect::<Vec<_>>();
        let bound = bind.into_iter().map(|address| self.bind(address));
        bound.chain(unbound).collect()
    }

    /// Says which cgroups workloads are, from the next packet on.
    ///
    /// # Errors
    /// If the tables are broken.
    pub fn set_workloads(&mut self, assigned: &Assigned) -> Result<(), QuarantineError> {
        if self.assigned == *assigned {
            return Ok(());
        }
        for (class, workload) in classes(&self.workloads, assigned) {
            self.tables.set_workload(class, workload)?;
        }
        self.assigned.clone_from(assigned);
        Ok(())
    }

    fn unbind(&mut self, address: IpAddr) -> Result<(), QuarantineError> {
        let leaf = self.tables.leaf(address)?;
        self.tables.set_leaf(address, self.unbound.leaf(address))?;
        self.bound_leaves.insert(address, leaf);
        Ok(())
    }

    fn bind(&mut self, address: IpAddr) -> Result<(), QuarantineError> {
        if let Some(leaf) = self.bound_leaves.get(&address) {
            self.tables.set_leaf(address, *leaf)?;
            self.bound_leaves.remove(&address);
        }
        Ok(())
    }
}

impl Role {
    /// Where the tables of a role lie.
    #[must_use]
    pub fn pins(self, instance: &Pins) -> Pins {
        match self {
            Self::Overlay => instance.clone(),
            Self::Exchange => instance.exchange(),
            Self::Underlay => instance.underlay(),
            Self::Local => instance.local(),
        }
    }
}

/// What the local classes of workloads are to be, if these run.
fn classes<'a>(
    workloads: &'a Workloads,
    assigned: &'a Assigned,
) -> impl Iterator<Item = (u32, Workload)> + 'a {
    let entry = |number: u32, name: &str| match assigned.get(name) {
        Some((cgroup, level)) => Workload { cgroup: *cgroup, level: *level, number },
        None => Workload::not_running(number),
    };
    (0..).zip(&workloads.each).flat_map(move |(number, workload)| {
        workload.classes.iter().map(move |class| (*class, entry(number, &workload.name)))
    })
}

/// Compiled tables in which these addresses are ones that nobody has. Returns the leaves that they had.
///
/// # Errors
/// If the tables are broken.
pub fn unbind(
    tables: &mut Tables,
    leaves: &Unbound,
    addresses: &BTreeSet<IpAddr>,
) -> Result<BTreeMap<IpAddr, Leaf>, QuarantineError> {
    let unbound = addresses.iter().map(|address| (*address, leaves.leaf(*address)));
    Ok(replace_leaves(tables, unbound)?.into_iter().collect())
}

/// Compiled tables as the kernel is to hold them now: deadlines in ns since boot in place of the Unix epoch, and these
/// addresses cut off. Returns the deadlines as they were.
///
/// # Errors
/// If the tables are broken.
pub fn as_now(
    tables: &mut Tables,
    clock: &BootClock,
    quarantined: &[IpAddr],
) -> Result<Vec<u64>, QuarantineError> {
    let deadlines = tables.deadlines.clone();
    tables.deadlines.iter_mut().skip(1).for_each(|deadline| *deadline = clock.deadline(*deadline));
    quarantine_tables(tables, quarantined)?;
    Ok(deadlines)
}
