//! What the kernel should hold: the recorded files of a generation, compiled again, with who is cut off now.
//!
//! Not part of it, since it is written while packets come and says nothing of the policy: flows, fragments,
//! aggregates, events and counters, the words of rates (`LIMIT_STATES`, `INITIATORS`, `ICMP_MISSES`, `BUDGET`), and
//! the resets to send. Membership and link protocols are in no table: programs are specialised by them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context as _;
use bulkhead_dataplane::{Pins, Specification};
use bulkhead_engine::memory::Tables;
use bulkhead_policy::compile::Program;
use bulkhead_policy::held::Whose;
use bulkhead_policy::inventory::{Inventory, Network};
use bulkhead_policy::resolve::Ruleset;

use super::record::Built;
use crate::config::{Mode, Role};
use crate::daemon::clock::BootClock;
use crate::daemon::files::Files;
use crate::daemon::quarantine::list::List;
use crate::daemon::state::inputs::{Inputs, OfRole};
use crate::daemon::state::role_tables::{as_now, unbind};
use crate::daemon::store::GenerationMeta;
use crate::version::VERSION;

/// A generation, as it was recorded.
#[derive(Clone)]
pub struct Recorded {
    /// Its number.
    pub number: u32,
    /// Its files.
    pub files: Files,
    /// What is kept besides.
    pub made: GenerationMeta,
    /// What it was built with.
    pub built: Built,
    /// The staged policy beside it.
    pub staged: Option<(u32, Files, GenerationMeta)>,
}

/// The tables of one role.
pub struct Set {
    /// Whose interfaces read them.
    pub role: Role,
    /// Enforce or audit.
    pub mode: Mode,
    program: Program,
    ruleset: Ruleset,
    /// Who has which address there; none: as in the inventory.
    inventory: Option<Inventory>,
    /// Rules are numbered after so many of other roles.
    first_rule: u32,
}

/// Everything of one generation that lies in its tables.
pub struct Sets {
    /// The generation.
    pub number: u32,
    /// What it was built with.
    pub built: Built,
    /// Enforced tables.
    pub enforced: Vec<Set>,
    /// Of the staged policy.
    pub staged: Vec<Set>,
    /// Who exists.
    inventory: Inventory,
    staged_inventory: Option<Inventory>,
}

impl Sets {
    /// Compiles what was recorded.
    ///
    /// # Errors
    /// If another version's agent has built it, or the files do not give the rules that were recorded of them.
    pub fn compile(recorded: Recorded) -> anyhow::Result<Self> {
        let Recorded { number, files, made, built, staged } = recorded;
        anyhow::ensure!(
            built.version == VERSION,
            "generation {number} was built by version {}, and this is {VERSION}: ask with the agent's own binary, or \
             start the agent again with this one",
            built.version
        );
        let options = built.options();
        let compile = |number, files, made: &GenerationMeta| {
            let inputs = Inputs::compile(files, made.mode, &options).map_err(|refused| {
                anyhow::anyhow!("generation {number} does not compile:\n{}", refused.text())
            })?;
            anyhow::ensure!(
                inputs.fingerprints == made.fingerprints,
                "the recorded files of generation {number} are not those that it was built from: their rules are \
                 others; `bulkhead apply` enforces files that are known"
            );
            anyhow::Ok(inputs)
        };
        let (enforced, inventory) = sets(compile(number, files, &made)?);
        let staged = staged.map(|(number, files, made)| anyhow::Ok(sets(compile(number, files, &made)?)));
        let (staged, staged_inventory) =
            staged.transpose()?.map_or((Vec::new(), None), |(sets, who)| (sets, Some(who)));
        Ok(Self { number, built, enforced, staged, inventory, staged_inventory })
    }

    /// What one set of tables should hold now, with who is cut off and who is not bound; deadlines in ns since boot.
    /// Generations are built by the same functions.
    ///
    /// # Errors
    /// If an address cannot be cut off in them.
    pub fn expected(
        &self,
        set: &Set,
        clock: &BootClock,
        (quarantined, unbound): (&List, &BTreeSet<IpAddr>),
    ) -> anyhow::Result<Tables> {
        let mut quarantined = quarantined.clone();
        let own =
            self.built.exemptions.underlay.iter().flat_map(|all| all.addresses.iter().copied()).collect();
        quarantined.follow(&self.inventory, (&self.built.node, &own));
        let addresses: Vec<_> = if self.is_staged(set) {
            // What only observes has nobody cut off.
            Vec::new()
        } else {
            quarantined.addresses().into_iter().collect()
        };
        let mut tables = set.program.tables.clone();
        if !self.is_staged(set) && set.role == Role::Overlay {
            unbind(&mut tables, &set.program.unbound, unbound)?;
        }
        as_now(&mut tables, clock, &addresses)?;
        if !self.is_staged(set) {
            tables.hosts = self.specification(set, &tables)?.hosts()?.into_owned();
        }
        Ok(tables)
    }

    /// What its programs were loaded with, as far as that is known.
    ///
    /// # Errors
    /// If an agent of other time-outs has written it.
    pub fn specification<'a>(&self, set: &Set, tables: &'a Tables) -> anyhow::Result<Specification<'a>> {
        let built = &self.built;
        let timeouts = built.timeouts().context("built.json: time-outs of another number of states")?;
        Ok(Specification {
            audit: set.mode == Mode::Audit,
            capacity: built.capacity(),
            new_flows: built.new_flows(),
            event_budget: built.event_budget,
            allowed: built.allowed(),
            ..Specification::new(self.number, tables, timeouts)
        })
    }

    /// Whose tables they are.
    ///
    /// # Errors
    /// If the inventory does not have the node.
    pub fn whose<'a>(
        &'a self,
        set: &'a Set,
        title: &'a dyn Fn(u32) -> Option<String>,
    ) -> anyhow::Result<Whose<'a>> {
        let staged = self.staged_inventory.as_ref().filter(|_| self.is_staged(set));
        let inventory = set.inventory.as_ref().or(staged).unwrap_or(&self.inventory);
        let name = &self.built.node;
        let node = inventory.node(name).with_context(|| format!("the inventory has no node {name}"))?;
        let network = match set.role {
            Role::Overlay | Role::Local => Network::Overlay,
            Role::Exchange | Role::Underlay => Network::Underlay,
        };
        Ok(Whose { inventory, node, network, title })
    }

    fn is_staged(&self, set: &Set) -> bool {
        self.staged.iter().any(|staged| std::ptr::eq(staged, set))
    }
}

impl Set {
    /// Its pins.
    #[must_use]
    pub fn pins(&self, pins: &Pins) -> Pins {
        self.role.pins(pins)
    }

    /// The title of a rule by the number that cells give it.
    #[must_use]
    pub fn title(&self, rule: u32) -> Option<String> {
        let index = self.program.rules.get(rule.checked_sub(self.first_rule)? as usize)?;
        Some(self.ruleset.rules[*index].title())
    }
}

fn sets(inputs: Inputs) -> (Vec<Set>, Inventory) {
    let Inputs { program, ruleset, others, inventory, mode, .. } = inputs;
    let mut first_rule = program.rules.len() as u32;
    let mut all = vec![Set { role: Role::Overlay, mode, program, ruleset, inventory: None, first_rule: 0 }];
    for OfRole { role, ruleset, program, inventory } in others {
        let rules = program.rules.len() as u32;
        all.push(Set { role, mode, program, ruleset, inventory, first_rule });
        first_rule += rules;
    }
    (all, inventory)
}
