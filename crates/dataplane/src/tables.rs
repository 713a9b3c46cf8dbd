//! One set of compiled tables in its maps: what they are called, making and filling them.

use aya::Ebpf;
use aya::maps::MapData;
use aya::maps::lpm_trie::{Key, LpmTrie};
use bulkhead_abi::TLS_COUNTS;
use bulkhead_engine::host_table::HostTable;
use bulkhead_engine::memory::Tables;

use super::KernelError;
use super::direct::DirectMaps;
use super::fill::fill;
use super::object::missing;

/// Names of the maps that one set of tables lies in.
pub(super) struct TableNames {
    pub(super) trie: &'static str,
    pub(super) hosts: &'static str,
    pub(super) prefix6: &'static str,
    pub(super) ports: &'static str,
    pub(super) pairs: &'static str,
    pub(super) cells: &'static str,
    pub(super) deadlines: &'static str,
    pub(super) workloads: &'static str,
    pub(super) enforcing: Option<Enforcing>,
}

/// Maps that only enforced tables have: what observes counts no rule and takes nothing of a rate.
pub(super) struct Enforcing {
    pub(super) routes: &'static str,
    pub(super) limits: &'static str,
    limit_states: &'static str,
    rule_counters: &'static str,
    tls_counters: &'static str,
}

/// Of the enforced generation.
pub(super) const ENFORCED: TableNames = TableNames {
    trie: "TRIE4",
    hosts: "HOST_TABLE",
    prefix6: "PREFIX6",
    ports: "PORTS",
    pairs: "PAIRS",
    cells: "CELLS",
    deadlines: "DEADLINES",
    workloads: "WORKLOADS",
    enforcing: Some(Enforcing {
        routes: "ROUTES",
        limits: "LIMITS",
        limit_states: "LIMIT_STATES",
        rule_counters: "RULE_COUNTERS",
        tls_counters: "TLS_COUNTERS",
    }),
};

/// Of a generation that only observes.
pub(super) const STAGED_TABLES: TableNames = TableNames {
    trie: "STAGED_TRIE4",
    hosts: "STAGED_HOST_TABLE",
    prefix6: "STAGED_PREFIX6",
    ports: "STAGED_PORTS",
    pairs: "STAGED_PAIRS",
    cells: "STAGED_CELLS",
    deadlines: "STAGED_DEADLINES",
    workloads: "STAGED_WORKLOADS",
    enforcing: None,
};

/// Makes the maps that programs address directly, with what is in them; `hosts` is the tables' host
/// one, or has more room.
pub(super) fn make_direct(
    maps: &mut DirectMaps,
    tables: &Tables,
    hosts: &HostTable,
    names: &TableNames,
) -> Result<(), KernelError> {
    maps.make(names.trie, tables.trie.as_flattened())?;
    maps.make(names.hosts, hosts.buckets())?;
    maps.make(names.ports, tables.ports.as_flattened())?;
    maps.make(names.pairs, tables.pairs.as_flattened())?;
    maps.make(names.cells, &tables.cells)?;
    maps.make(names.workloads, &tables.workloads)?;
    maps.make(names.deadlines, &tables.deadlines)
}

/// The entries that each of the other maps needs, which the object has.
pub(super) fn sizes(tables: &Tables, names: &TableNames) -> Vec<(&'static str, usize)> {
    let mut sizes = vec![(names.prefix6, tables.prefixes6.len())];
    if let Some(Enforcing { routes, limits, limit_states, rule_counters, tls_counters }) = names.enforcing {
        sizes.push((routes, tables.routes.len()));
        sizes.push((limits, tables.limits.len()));
        sizes.push((limit_states, 2 * tables.limits.len()));
        sizes.push((rule_counters, tables.rules as usize));
        sizes.push((tls_counters, (tables.rules * TLS_COUNTS) as usize));
    }
    sizes
}

/// Fills those.
pub(super) fn fill_tables(tables: &Tables, names: &TableNames, object: &mut Ebpf) -> Result<(), KernelError> {
    if let Some(Enforcing { routes, limits, .. }) = names.enforcing {
        fill(limits, object.map(limits).ok_or_else(|| missing(limits))?, &tables.limits)?;
        let what = || KernelError::refused(format!("filling map {routes}"));
        let mut prefixes: LpmTrie<&mut MapData, [u32; 4], [u32; 2]> =
            object.map_mut(routes).ok_or_else(|| missing(routes))?.try_into().map_err(what())?;
        for (key, routed) in &tables.routes {
            let value = [routed.behind, routed.speaks_for];
            prefixes.insert(&Key::new(key.prefix, key.address), value, 0).map_err(what())?;
        }
    }
    let what = || KernelError::refused(format!("filling map {}", names.prefix6));
    let mut prefixes: LpmTrie<&mut MapData, [u32; 4], u32> =
        object.map_mut(names.prefix6).ok_or_else(|| missing(names.prefix6))?.try_into().map_err(what())?;
    for (key, leaf) in &tables.prefixes6 {
        prefixes.insert(&Key::new(key.prefix, key.address), leaf.0, 0).map_err(what())?;
    }
    Ok(())
}
