//! Rules → the verdict tables of one node.

mod added;
mod classes;
mod error;
mod limits;
mod node;
mod ports;
mod routes;
mod rows;
mod sizes;
mod tables4;
mod tables6;
mod unbound;
mod withdrawn;
mod workloads;

pub use added::{added, store};
pub use error::CompileError;
pub use sizes::sizes;
pub use unbound::Unbound;
pub use withdrawn::{Basis, Withdrawn};
pub use workloads::{CompiledWorkload, Workloads};

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bulkhead_abi::{
    BLOCK_SLOTS, CELL_ALLOW, CELL_CLOSED, CELL_DEFAULT_DENY, CELL_DENY, CELL_EXEMPT, CELL_ONE_WAY,
    CELL_REJECT, CELL_TLS, CELL_TLS_POSTGRES, CELL_TLS_REQUIRED, Cell, Direction, Leaf, MAX_TABLE_BYTES,
    Pair, from_ip, pair_index,
};
use bulkhead_engine::host_table::HostTable;
use bulkhead_engine::memory::Tables;

use crate::analysis::equivalence::Sweep;
use crate::bits::Bits;
use crate::frontend::inventory::{Inventory, Node};
use crate::frontend::policy::{Action, Starttls, Tls, TlsMode};
use crate::resolve::{Rule, Ruleset, SelectorId};
use crate::suggest;
use classes::{Classes, Merged, merge};
use node::{Between, Sides};
use ports::PortClasses;
use rows::{Lane, Rows};

/// What may be used.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that the tables may take, all together.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 20 }
    }
}

/// One node's tables.
#[derive(Clone, Debug)]
pub struct Program {
    /// What the kernel looks up.
    pub tables: Tables,
    /// The rules that cells name: indices into [`Ruleset::rules`].
    pub rules: Vec<usize>,
    /// Distinct rows of cells.
    pub rows: usize,
    /// What its addresses become while they are not bound to their keys.
    pub unbound: Unbound,
    /// Its workloads, for the agent.
    pub workloads: Workloads,
}

/// Compiles the tables of one node, on the network that the rules were resolved for.
///
/// # Errors
/// The node does not exist, or its tables cannot be held by the layouts or the limits.
pub fn compile(
    ruleset: &Ruleset,
    inventory: &Inventory,
    name: &str,
    limits: Limits,
) -> Result<Program, CompileError> {
    compile_between(ruleset, inventory, name, limits, Between::Hosts)
}

/// Compiles the tables of a node's `lo`: each end of a packet is judged as if the other were on another host. Nobody
/// has a class in them but the node's own addresses and those of its workloads, so that an identity more on another
/// host changes nothing. `ruleset` is that of the overlay.
///
/// # Errors
/// As [`compile`].
pub fn compile_loopback(
    ruleset: &Ruleset,
    inventory: &Inventory,
    name: &str,
    limits: Limits,
) -> Result<Program, CompileError> {
    compile_between(ruleset, inventory, name, limits, Between::Own)
}

fn compile_between(
    ruleset: &Ruleset,
    inventory: &Inventory,
    name: &str,
    limits: Limits,
    between: Between,
) -> Result<Program, CompileError> {
    let node = inventory.node(name).ok_or_else(|| CompileError::UnknownNode {
        name: name.into(),
        suggestion: suggest::did_you_mean(name, inventory.nodes.iter().map(|node| node.name.as_str())),
    })?;
    if let Some(workload) = &node.workload {
        return Err(CompileError::Workload { name: name.into(), host: workload.host.clone() });
    }
    let router = inventory.index(name);
    let sides = Sides::new(ruleset, inventory, node, between);
    let sets = sides.sets();
    let mut sweep = Sweep::new(sets.len());
    let pieces4 = sweep.axis(sets.iter().map(|set| &set.v4).enumerate());
    let pieces6 = sweep.axis(sets.iter().map(|set| &set.v6).enumerate());
    let mut classes = Classes::new(&sides, &sweep)?;
    let exempt = unbound::exempt(ruleset, &sides, &mut classes, node, inventory);

    // On `lo` nobody may speak for a workload, the agent included: there is no answer.
    let rejects = between == Between::Hosts;
    let mut rules = Rules::new(rejects);
    let lanes = Direction::ALL_LANES
        .map(|direction| lanes(ruleset, &sides, &classes, (direction, router), &mut rules));

    let used = lanes.iter().flatten().flatten().flat_map(|lane| lane.services.iter().copied());
    let ports = PortClasses::new(ruleset, used)?;
    let none =
        if rejects && ruleset.rejects { Cell { flags: CELL_REJECT, ..Cell::NONE } } else { Cell::NONE };
    let mut rows = Rows::new(ports.count as usize, none, limits.bytes);
    rules.limits.check()?;
    let matrix = matrix(&lanes, &sides, &classes, &ports, &mut rows, node, limits)?;
    let wide = classes.wide(&pieces4, &pieces6);
    let Merged { of: merged, remotes, wide } = merge(&matrix, &classes, &wide)?;

    let leaf = |class: u32| {
        let class = class as usize;
        let own = sweep.classes[class].contains(sets.len() - 1);
        Leaf::new(classes.local_of[class], merged[classes.remote_of[class] as usize], own)
    };
    let most = limits.bytes.min(MAX_TABLE_BYTES as u64);
    let blocks = most as usize / (BLOCK_SLOTS * 4);
    let unbound = Unbound::new(exempt, &merged);
    let tables4 = tables4::tables4(&pieces4, leaf, blocks).ok_or_else(|| {
        let what = "the IPv4 addresses";
        if most < limits.bytes {
            return CompileError::TableTooLarge { what, bytes: most + 1, limit: most };
        }
        let detail = format!("more than {blocks} blocks of 1024 bytes for {} ranges", pieces4.len());
        CompileError::Budget { what, detail, budget: limits.bytes }
    })?;
    let tables6 = tables6::tables6(sets.iter().map(|set| &set.v6), &pieces6, leaf);
    let single4 =
        tables4.hosts.iter().map(|(address, leaf)| (from_ip(Ipv4Addr::from_bits(*address).into()), *leaf));
    let hosts = HostTable::new(single4.chain(tables6.hosts.iter().copied()))
        .map_err(|_| CompileError::Collision { count: tables4.hosts.len() + tables6.hosts.len() })?;
    let locals = classes.locals.len() as u32;
    let pairs = pairs(&matrix, &merged, &rows, locals, remotes);
    let row_count = rows.len();
    let (cells, deadlines) = rows.finish();
    let tables = Tables {
        trie: tables4.trie,
        hosts,
        prefixes6: tables6.prefixes,
        routes: match between {
            Between::Hosts => routes::routes(inventory, node, ruleset.network),
            // Nobody routes between a host's own addresses.
            Between::Own => Vec::new(),
        },
        ports: ports.blocks,
        pairs,
        cells,
        deadlines,
        limits: rules.limits.table,
        workloads: workloads::table(&sides, &classes),
        groups: !ruleset.groups_of(node).is_empty(),
        rules: rules.used.len() as u32,
        locals: locals.max(1),
        remotes,
        wide,
        port_classes: ports.count,
    };
    sizes::check(&tables, limits.bytes)?;
    let workloads = workloads::workloads(&sides, &classes, node, ruleset.network);
    Ok(Program { tables, rules: rules.used, rows: row_count, unbound, workloads })
}

/// Both directions, in the order of their indices.
trait BothDirections {
    const ALL_LANES: [Direction; 2];
}

impl BothDirections for Direction {
    const ALL_LANES: [Direction; 2] = [Direction::Ingress, Direction::Egress];
}

fn bounded(what: &'static str, count: usize, limit: usize) -> Result<(), CompileError> {
    if count > limit {
        return Err(CompileError::TooMany { what, count: count as u64, limit: limit as u64 });
    }
    Ok(())
}

/// The node's rules, numbered from 0 as they are first needed.
struct Rules {
    used: Vec<usize>,
    cells: HashMap<usize, Cell>,
    limits: limits::Table,
    /// What is denied may be told of.
    rejects: bool,
}

impl Rules {
    fn new(rejects: bool) -> Self {
        Self { used: Vec::new(), cells: HashMap::new(), limits: limits::Table::new(), rejects }
    }

    /// The cell that a rule decides by, without its expiry.
    fn cell(&mut self, index: usize, rule: &Rule) -> Cell {
        *self.cells.entry(index).or_insert_with(|| {
            self.used.push(index);
            let action = match rule.action {
                Action::Accept => CELL_ALLOW,
                Action::Deny if rule.is_default_deny() => CELL_DEFAULT_DENY,
                Action::Deny => CELL_DENY,
            };
            let flag = |on: bool, bit: u8| if on { bit } else { 0 };
            let tls = rule.tls.map_or(0, tls_flags);
            let flags = flag(rule.one_way, CELL_ONE_WAY)
                | flag(rule.is_closed(), CELL_CLOSED)
                | flag(rule.is_exempt(), CELL_EXEMPT)
                | flag(rule.rejects && self.rejects, CELL_REJECT)
                | tls;
            let limit = self.limits.add(rule.rates);
            Cell { flags, limit, ..Cell::new(self.used.len() as u32 - 1, action) }
        })
    }
}

/// The flags of a cell whose rule asks how connections begin.
const fn tls_flags(tls: Tls) -> u8 {
    let required = match tls.mode {
        TlsMode::Observe => 0,
        TlsMode::Required => CELL_TLS_REQUIRED,
    };
    let before = match tls.starttls {
        None => 0,
        Some(Starttls::Postgres) => CELL_TLS_POSTGRES,
    };
    CELL_TLS | required | before
}

/// What a rule lets a local class do with the remote selectors that it names.
struct Path<'r> {
    cell: Cell,
    services: Vec<crate::resolve::ServiceId>,
    remote: Vec<SelectorId>,
    source: &'r Rule,
}

/// For each local class, the paths of one direction in the order of their rules.
fn lanes<'r>(
    ruleset: &'r Ruleset,
    sides: &Sides<'_>,
    classes: &Classes,
    (direction, router): (Direction, Option<u32>),
    rules: &mut Rules,
) -> Vec<Vec<Path<'r>>> {
    let position: HashMap<SelectorId, usize> =
        sides.local_selectors.iter().enumerate().map(|(index, (id, _))| (*id, index + 1)).collect();
    let mut all: Vec<Vec<Path<'r>>> = classes.locals.iter().map(|_| Vec::new()).collect();
    for (index, rule) in ruleset.rules.iter().enumerate() {
        for block in &rule.blocks {
            let touched = |id: &SelectorId| sides.touches[id.0 as usize];
            let relevant = match direction {
                Direction::Ingress if block.via.is_some() && block.via != router => false,
                Direction::Ingress => block.destinations.iter().any(|(id, _)| touched(id)),
                Direction::Egress => block.sources.iter().any(touched),
            };
            if !relevant {
                continue;
            }
            for (members, paths) in classes.locals.iter().zip(&mut all) {
                let here = |id: &SelectorId| position.get(id).is_some_and(|set| members.contains(*set));
                let mut path = |services: Vec<_>, remote: Vec<_>| {
                    paths.push(Path { cell: rules.cell(index, rule), services, remote, source: rule });
                };
                match direction {
                    Direction::Ingress => {
                        let services: Vec<_> =
                            block.destinations.iter().filter(|(id, _)| here(id)).map(|(_, s)| *s).collect();
                        if !services.is_empty() {
                            path(services, block.sources.clone());
                        }
                    }
                    Direction::Egress if block.sources.iter().any(here) => {
                        for (id, service) in &block.destinations {
                            path(vec![*service], vec![*id]);
                        }
                    }
                    Direction::Egress => {}
                }
            }
        }
    }
    all
}

/// `[direction][local class − 1][remote class]` → row.
type Matrix = [Vec<Vec<u32>>; 2];

fn matrix(
    lanes: &[Vec<Vec<Path<'_>>>; 2],
    sides: &Sides<'_>,
    classes: &Classes,
    ports: &PortClasses,
    rows: &mut Rows,
    node: &Node,
    limits: Limits,
) -> Result<Matrix, CompileError> {
    let bytes = 8 * classes.locals.len() as u64 * classes.column_count() as u64;
    if bytes > limits.bytes {
        let detail =
            format!("{} local × {} remote address classes", classes.locals.len(), classes.remotes.len());
        return Err(CompileError::Budget {
            what: "the pairs of address classes",
            detail,
            budget: limits.bytes,
        });
    }
    // Set 0 of the remote side is 'known', the last ones are the expiry times.
    let position: HashMap<SelectorId, usize> =
        sides.remote_selectors.iter().enumerate().map(|(index, id)| (*id, index + 1)).collect();
    let first_time = sides.remote_selectors.len() + 1;
    let mut matrix = [Vec::new(), Vec::new()];
    for (paths_of, rows_of) in lanes.iter().zip(&mut matrix) {
        for (paths, local) in paths_of.iter().zip(&classes.locals) {
            // A workload ends with its host, or before.
            let ends =
                sides.workload_of(local).and_then(|place| sides.workloads[place].0.expires).or(node.expires);
            let mut by_set: Vec<Option<Bits>> = vec![None; sides.remotes()];
            for (number, path) in paths.iter().enumerate() {
                for set in path.remote.iter().filter_map(|id| position.get(id)) {
                    by_set[*set].get_or_insert_with(|| Bits::new(paths.len())).insert(number);
                }
            }
            let lanes: Vec<Lane> = paths
                .iter()
                .map(|path| Lane {
                    number: path.source.number,
                    cell: path.cell,
                    expires: path.source.expires,
                    ports: ports.of(&path.services),
                })
                .collect();
            let mut known: HashMap<(Bits, Option<u64>, bool), u32> = HashMap::new();
            let mut row_of = Vec::with_capacity(classes.column_count());
            for (members, only_exempt) in classes.columns() {
                let mut matching = Bits::new(paths.len());
                let mut deadline = ends;
                for set in members.iter() {
                    if set >= first_time {
                        let time = sides.expiring[set - first_time].0;
                        deadline = Some(deadline.map_or(time, |other| other.min(time)));
                    } else if let Some(bits) = &by_set[set] {
                        matching.union_with(bits);
                        if only_exempt {
                            let others = bits.iter().filter(|path| !paths[*path].source.is_exempt());
                            others.for_each(|path| matching.remove(path));
                        }
                    }
                }
                // Who is not who it says, or is not known at all, hears nothing.
                let is_known = members.contains(0) && !only_exempt;
                let key = (matching, deadline, is_known);
                let row = match known.get(&key) {
                    Some(row) => *row,
                    None => {
                        let row = rows.row(&lanes, &key.0, deadline, is_known)?;
                        known.insert(key, row);
                        row
                    }
                };
                row_of.push(row);
            }
            rows_of.push(row_of);
        }
    }
    Ok(matrix)
}

fn pairs(
    matrix: &Matrix,
    merged: &[u32],
    rows: &Rows,
    locals: u32,
    remotes: u32,
) -> Vec<[Pair; BLOCK_SLOTS]> {
    let entries = (2 * locals.max(1) * remotes) as usize;
    let mut blocks = vec![[Pair(0); BLOCK_SLOTS]; entries.div_ceil(BLOCK_SLOTS)];
    for direction in Direction::ALL_LANES {
        let here = &matrix[direction.index() as usize];
        let there = &matrix[direction.opposite().index() as usize];
        for (local, (rows_here, rows_there)) in (1..).zip(here.iter().zip(there)) {
            for (remote, (row, opposite)) in merged.iter().zip(rows_here.iter().zip(rows_there)) {
                let index = pair_index(direction, local, *remote, locals, remotes) as usize;
                blocks[index / BLOCK_SLOTS][index % BLOCK_SLOTS] =
                    Pair::new(rows.first_cell(*row), rows.admits(*opposite));
            }
        }
    }
    blocks
}
