//! What the kernel holds, read back through its pins: the tables of a generation, and what runs on the hooks. No
//! program notices.

mod programs;

use aya::maps::MapData;
use bulkhead_abi::{BLOCK_SLOTS, HostBucket, Leaf, LpmKey, Routed, Workload};
use bulkhead_engine::host_table::HostTable;
use bulkhead_engine::memory::Tables;

use super::batch;
use super::mapped;
use super::tables::{ENFORCED, STAGED_TABLES, TableNames};
use super::value::Value;
use super::{KernelError, Pins};

pub use programs::{HeldProgram, Inside, Stranger, held_programs, held_settings};

/// The tables of one role of a generation, as the kernel holds them; of its staged policy if `of_staged`. What lies
/// in no map (numbers of classes and rules) is `expected`'s. Deadlines are in ns since boot.
///
/// What is written at run time and says nothing of the policy is not read: counters, the words of rates, flows. Nor is
/// which cgroups workloads are just now: of each that has any, that it is one is all that is told.
///
/// # Errors
/// If a map is not pinned, or not of the shape that this agent makes.
pub fn held_tables(
    pins: &Pins,
    generation: u32,
    expected: &Tables,
    of_staged: bool,
) -> Result<Tables, KernelError> {
    let names = if of_staged { &STAGED_TABLES } else { &ENFORCED };
    let TableNames { trie, hosts, prefix6, ports, pairs, cells, deadlines, workloads, enforcing } = names;
    let held = Held { pins, generation };
    let mut tables = Tables {
        trie: blocks(held.values(trie)?),
        hosts: HostTable::of_buckets(held.values::<HostBucket>(hosts)?),
        prefixes6: held.prefixes(prefix6, |value| Leaf(u32::from_ne_bytes(value)))?,
        ports: blocks(held.values(ports)?),
        pairs: blocks(held.values(pairs)?),
        cells: held.values(cells)?,
        deadlines: held.values(deadlines)?,
        workloads: held.values::<Workload>(workloads)?.into_iter().map(Workload::without_cgroup).collect(),
        ..expected.clone()
    };
    if let Some(enforcing) = enforcing {
        tables.limits = held.values(enforcing.limits)?;
        tables.routes = held.prefixes(enforcing.routes, |value: [u8; 8]| {
            let (behind, speaks_for) = value.split_at(4);
            let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap_or_default());
            Routed { behind: word(behind), speaks_for: word(speaks_for) }
        })?;
    }
    Ok(tables)
}

fn blocks<T: Copy>(values: Vec<T>) -> Vec<[T; BLOCK_SLOTS]> {
    values.as_chunks().0.to_vec()
}

struct Held<'a> {
    pins: &'a Pins,
    generation: u32,
}

impl Held<'_> {
    fn open(&self, name: &str) -> Result<MapData, KernelError> {
        let path = self.pins.table(self.generation, name);
        MapData::from_pin(&path)
            .map_err(KernelError::refused(format!("{}: opening the pinned map", path.display())))
    }

    /// All values of an array map that is memory.
    fn values<T: Value>(&self, name: &str) -> Result<Vec<T>, KernelError> {
        let what = format!("generation {}: reading map {name}", self.generation);
        let map = self.open(name)?;
        let info = map.info().map_err(KernelError::refused(what.clone()))?;
        let bytes = info.value_size() as usize * info.max_entries() as usize;
        mapped::read(&map, bytes).map_err(KernelError::refused(what))
    }

    /// All entries of an LPM trie, sorted as tables have them.
    fn prefixes<T, const SIZE: usize>(
        &self,
        name: &str,
        value: impl Fn([u8; SIZE]) -> T,
    ) -> Result<Vec<(LpmKey, T)>, KernelError> {
        let mut entries = Vec::new();
        batch::read_bytes(&self.open(name)?, |key, bytes| {
            let words = key.as_chunks::<4>().0;
            if let ([prefix, a, b, c, d], Ok(bytes)) = (words, bytes.try_into()) {
                let address = [a, b, c, d].map(|word| u32::from_ne_bytes(*word));
                let key = LpmKey { prefix: u32::from_ne_bytes(*prefix), address };
                entries.push((key, value(bytes)));
            }
        })?;
        entries.sort_unstable_by_key(|(key, _)| (key.prefix, key.address));
        Ok(entries)
    }
}
