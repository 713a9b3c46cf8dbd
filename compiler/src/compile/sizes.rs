//! How much memory a node's tables take, each by its name.

use bulkhead_engine::memory::Tables;

use super::error::CompileError;

/// Each table's name and bytes, as the entries lie in the kernel, without its own overhead.
#[must_use]
pub fn sizes(tables: &Tables) -> [(&'static str, u64); 8] {
    [
        ("IPv4 trie", size_of_val(&tables.trie[..])),
        ("single addresses", size_of_val(tables.exact.buckets())),
        ("IPv6 prefixes", size_of_val(&tables.prefixes6[..])),
        ("ports", size_of_val(&tables.ports[..])),
        ("pairs of address classes", size_of_val(&tables.pairs[..])),
        ("cells", size_of_val(&tables.cells[..])),
        ("expiry times", size_of_val(&tables.deadlines[..])),
        ("rate limits", size_of_val(&tables.limits[..])),
    ]
    .map(|(name, bytes)| (name, bytes as u64))
}

/// Whether all of the tables together are within a budget.
pub(super) fn check(tables: &Tables, budget: u64) -> Result<(), CompileError> {
    let mut sizes = sizes(tables).to_vec();
    let total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    if total <= budget {
        return Ok(());
    }
    sizes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let detail: Vec<String> =
        sizes.iter().filter(|(_, bytes)| *bytes > 0).map(|(name, bytes)| format!("{name} {bytes}")).collect();
    let detail = format!("{total} bytes are needed: {}", detail.join(", "));
    Err(CompileError::Budget { what: "the tables", detail, budget })
}
