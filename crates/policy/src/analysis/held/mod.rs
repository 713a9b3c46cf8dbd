//! Tables as somebody holds them, compared with what they should be: which entries differ, and what that
//! means in the policy's terms.
//!
//! Every entry is compared as it lies in memory. Of one that differs the engine's own look-ups are asked on both
//! sides; where no answer is another one, the entry means nothing.

mod addresses;
mod names;
mod ports;
mod verdicts;

use bulkhead_abi::Direction;
use bulkhead_engine::memory::{Memory, Tables};
use serde::Serialize;

use crate::backend::evaluate::environment;
use crate::frontend::inventory::{Inventory, Network, Node};
use names::Names;

/// Whose tables they are, for names.
#[derive(Clone, Copy)]
pub struct Whose<'a> {
    /// Who exists.
    pub inventory: &'a Inventory,
    /// The node that has the tables.
    pub node: &'a Node,
    /// Whose addresses they are of.
    pub network: Network,
    /// The title of a rule by the number that cells give it.
    pub title: &'a dyn Fn(u32) -> Option<String>,
}

/// A changed entry, by what it decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The table's name in the kernel.
    pub table: String,
    /// Which entry of it: a number, an address or a prefix.
    pub entry: String,
    /// `ingress` or `egress`; none where it is not of one.
    pub direction: Option<String>,
    /// From whom: a name and an address; none where it is not of one.
    pub source: Option<String>,
    /// To whom.
    pub destination: Option<String>,
    /// Ports and protocol, as in `22/tcp`.
    pub port: Option<String>,
    /// How many other pairs of address classes, or addresses, it decides as well.
    pub others: u64,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.source, &self.destination) {
            (Some(source), Some(destination)) => write!(f, "{source} → {destination}")?,
            (one, other) => f.write_str(one.as_ref().or(other.as_ref()).unwrap_or(&self.entry))?,
        }
        for part in [&self.port, &self.direction].into_iter().flatten() {
            write!(f, " {part}")?;
        }
        write!(f, ": {} should be; {} is", self.expected, self.found)?;
        match self.others {
            0 => write!(f, " ({} {})", self.table, self.entry),
            others => write!(f, " ({} {}; {others} others alike)", self.table, self.entry),
        }
    }
}

/// What came of comparing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What differs and means something; at most as many as were asked for.
    pub differences: Vec<Difference>,
    /// How many more there are.
    pub omitted: u64,
    /// Changed entries that mean nothing: no look-up that any packet can bring about has another answer.
    pub meaningless: u64,
}

impl Comparison {
    /// Whether all is as it should be, but for what means nothing.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.differences.is_empty() && self.omitted == 0
    }

    /// Adds what came of other tables.
    pub fn add(&mut self, other: Self) {
        self.differences.extend(other.differences);
        self.omitted += other.omitted;
        self.meaningless += other.meaningless;
    }
}

/// How far deadlines may lie beside what they should be, all of them by the same: two readings of the clocks, ns.
const CLOCKS: u64 = 1_000_000;

/// Compares tables in the kernel with what they should be; both with deadlines in ns since boot. At most `most`
/// differences are named.
#[must_use]
pub fn compare(expected: &Tables, held: &Tables, whose: &Whose, most: usize) -> Comparison {
    let mut held = held.clone();
    by_one_clock(&expected.deadlines, &mut held.deadlines);
    let mut sides = Sides { expected: environment(expected, 0), held: environment(&held, 0) };
    // Whether a program looks prefixes up was settled when it was loaded.
    sides.held.settings = sides.expected.settings;
    let names = Names::new(&sides.expected, whose);
    let mut found = Comparison::default();
    addresses::compare(&sides, &names, most, &mut found);
    let room = most.saturating_sub(found.differences.len());
    verdicts::compare(&mut sides, &names, room, &mut found);
    found
}

/// Should be, and is.
struct Sides<'a> {
    expected: Memory<'a>,
    held: Memory<'a>,
}

/// Takes out of deadlines by how much the clocks were read at another moment: by the same in all of them.
fn by_one_clock(expected: &[u64], held: &mut [u64]) {
    let shift = |(expected, held): (&u64, &u64)| (*held as i64).wrapping_sub(*expected as i64);
    let mut shifts: Vec<i64> = expected.iter().zip(&*held).skip(1).map(shift).collect();
    shifts.sort_unstable();
    let Some(shift) = shifts.get(shifts.len() / 2).copied() else { return };
    if shift.unsigned_abs() <= CLOCKS {
        // One that was over before the boot has no distance to it.
        let near = held.iter_mut().skip(1).filter(|deadline| **deadline > 1);
        near.for_each(|deadline| *deadline = deadline.saturating_add_signed(-shift));
    }
}

/// The entries that are not the same, by number; those that one side alone has too.
fn changed<T: PartialEq>(expected: &[T], held: &[T]) -> Vec<u32> {
    // One comparison of memory, mostly.
    if expected == held {
        return Vec::new();
    }
    let count = expected.len().max(held.len()) as u32;
    (0..count).filter(|at| expected.get(*at as usize) != held.get(*at as usize)).collect()
}

/// `ingress` or `egress`, and who sends to whom, of a packet between a local and a remote end.
fn ends<T>(direction: Direction, local: T, remote: T) -> (T, T) {
    match direction {
        Direction::Ingress => (remote, local),
        Direction::Egress => (local, remote),
    }
}
