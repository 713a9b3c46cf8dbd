//! How much memory a node's tables take, each by its name.

use bulkhead_abi::MAX_TABLE_BYTES;
use bulkhead_engine::memory::Tables;

use super::error::CompileError;

/// Each table's name and bytes, as the entries lie in the kernel, without its own overhead.
#[must_use]
pub fn sizes(tables: &Tables) -> [(&'static str, u64); 10] {
    [
        ("IPv4 trie", size_of_val(&tables.trie[..])),
        ("host table", size_of_val(tables.hosts.buckets())),
        ("IPv6 prefixes", size_of_val(&tables.prefixes6[..])),
        ("routes", size_of_val(&tables.routes[..])),
        ("ports", size_of_val(&tables.ports[..])),
        ("pairs of address classes", size_of_val(&tables.pairs[..])),
        ("cells", size_of_val(&tables.cells[..])),
        ("expiry times", size_of_val(&tables.deadlines[..])),
        ("rate limits", size_of_val(&tables.limits[..])),
        ("workloads", size_of_val(&tables.workloads[..])),
    ]
    .map(|(name, bytes)| (name, bytes as u64))
}

/// Whether each of the tables can be addressed, and all together are within a budget.
pub(super) fn check(tables: &Tables, budget: u64) -> Result<(), CompileError> {
    check_sizes(&mut sizes(tables), budget)
}

fn check_sizes(sizes: &mut [(&'static str, u64)], budget: u64) -> Result<(), CompileError> {
    let total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    sizes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    if total > budget {
        let taken = sizes.iter().filter(|(_, bytes)| *bytes > 0);
        let detail: Vec<String> = taken.map(|(name, bytes)| format!("{name} {bytes}")).collect();
        let detail = format!("{total} bytes are needed: {}", detail.join(", "));
        return Err(CompileError::Budget { what: "the tables", detail, budget });
    }
    let limit = MAX_TABLE_BYTES as u64;
    match sizes.first() {
        Some((what, bytes)) if *bytes > limit => {
            Err(CompileError::TableTooLarge { what, bytes: *bytes, limit })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{CompileError, MAX_TABLE_BYTES, check_sizes};

    #[test]
    fn a_table_that_programs_cannot_address_is_refused_though_there_is_memory() {
        let most = MAX_TABLE_BYTES as u64;
        let check = |cells| check_sizes(&mut [("ports", 1000), ("cells", cells)], u64::MAX);
        assert_eq!(check(most), Ok(()));
        let refused = CompileError::TableTooLarge { what: "cells", bytes: most + 16, limit: most };
        assert_eq!(check(most + 16), Err(refused));
    }
}
