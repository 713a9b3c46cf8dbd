//! The walks over the class tables.

use bulkhead_abi::{
    Address, Cell, Direction, Leaf, MAX_EXPIRY_CHAIN, NO_RULE, Pair, TRIE_ROOT_BLOCKS, pair_index, port_index,
};

use crate::host_table;
use crate::{Environment, Judgement, Reason};

/// The leaf of an address: local class, remote class, own, quarantined. An address that no
/// table holds has the zero leaf: neither local nor known.
///
/// # Errors
/// [`Reason::LookupFailed`] if the trie names a block that it does not have, or the host table a
/// bucket.
#[inline(always)]
pub fn leaf_of(env: &impl Environment, version: u8, address: &Address) -> Result<Leaf, Reason> {
    let mut other = Leaf::default();
    if version == 4 {
        let entry = trie_entry(env, u32::from_be(address[3]));
        if entry.is_leaf() {
            return Ok(entry);
        }
        other = entry.as_host_table().ok_or(Reason::LookupFailed)?;
    }
    match host_table::find(env.host_table(), address)? {
        Some(leaf) => Ok(leaf),
        None if version != 4 && env.has_prefix6() => Ok(env.prefix6(address).unwrap_or_default()),
        None => Ok(other),
    }
}

/// 16-8-8: the root by the upper half, then a block for each byte that tells addresses apart. A
/// leaf, an entry that sends to the host table, or one that names a block where none can be. (Not
/// a `Result`: of a failure the compiler would read the bits of a leaf that was never written, which
/// the verifier refuses.)
#[inline(always)]
fn trie_entry(env: &impl Environment, address: u32) -> Leaf {
    const BROKEN: Leaf = Leaf::block(Leaf::MAX_BLOCK);
    let Some(root) = env.trie((address >> 24) & (TRIE_ROOT_BLOCKS - 1), (address >> 16) as u8) else {
        return BROKEN;
    };
    let Some(block) = root.as_block() else {
        return root;
    };
    let Some(middle) = env.trie(block, (address >> 8) as u8) else {
        return BROKEN;
    };
    let Some(block) = middle.as_block() else {
        return middle;
    };
    env.trie(block, address as u8).filter(|last| last.is_leaf()).unwrap_or(BROKEN)
}

/// Looks up row, port class and cell of a local and a remote class. `port` is the destination's, in host byte order.
#[inline(always)]
pub fn judge(
    env: &impl Environment,
    direction: Direction,
    classes: [u32; 2],
    protocol: u8,
    port: u16,
) -> Judgement {
    let found = cell_of(env, direction, classes, protocol, port);
    let cell = match found {
        Some((_, cell)) if cell.deadline != 0 => unexpired(env, cell),
        Some((_, cell)) => Ok(cell),
        None => Err(Reason::LookupFailed),
    };
    let opposite = found.is_some_and(|(pair, _)| pair.opposite());
    match cell {
        Ok(cell) => Judgement::of(cell, opposite),
        Err(reason) => Judgement { reason, flags: 0, limit: 0, rule: NO_RULE, opposite },
    }
}

/// The cell of a packet between a local and a remote class, which may have expired, and its row.
#[inline(always)]
pub(crate) fn cell_of(
    env: &impl Environment,
    direction: Direction,
    [local, remote]: [u32; 2],
    protocol: u8,
    port: u16,
) -> Option<(Pair, Cell)> {
    let pair = env.pair(pair_index(direction, local, remote, env.locals(), env.remotes()))?;
    let class = env.port_class(port_index(protocol, port))?;
    Some((pair, env.cell(pair.row() + class)?))
}

/// The first cell of the chain that has not expired: an expired rule is absent.
#[inline(always)]
fn unexpired(env: &impl Environment, mut cell: Cell) -> Result<Cell, Reason> {
    let now = env.boot_time();
    for _ in 0..MAX_EXPIRY_CHAIN {
        if cell.deadline == 0 {
            return Ok(cell);
        }
        let deadline = env.deadline(u32::from(cell.deadline)).ok_or(Reason::LookupFailed)?;
        if now < deadline {
            return Ok(cell);
        }
        cell = env.cell(cell.next).ok_or(Reason::LookupFailed)?;
    }
    if cell.deadline == 0 { Ok(cell) } else { Err(Reason::ExpiryChain) }
}
