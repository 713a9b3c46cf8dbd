//! The tables of a generation as memory that a program addresses directly, as it does its own
//! globals: each is an array map of one value. The loader makes them and writes into the program
//! which they are (docs/decisions/0019); what is left of a look-up is one comparison.

use bulkhead_engine::layout::{BLOCK_SLOTS, Cell, ExactBucket, Leaf, PORT_BLOCKS, Pair};

use crate::settings;

macro_rules! tables {
    ($($read:ident: $type:ty = $table:ident or $shadow:ident;)*) => {
        // Defined nowhere, so that the object keeps a place for each address.
        unsafe extern "C" {
            $(static mut $table: $type; static mut $shadow: $type;)*
        }
        $(
            /// Entry `index` of the enforced generation's table, or of the one that observes.
            #[inline(always)]
            fn $read<const SHADOW: bool>(index: u64, count: u32) -> Option<&'static $type> {
                let table = if SHADOW { &raw const $shadow } else { &raw const $table };
                if index >= u64::from(count) {
                    return None;
                }
                // SAFETY: the loader gives the table `count` entries; of this type, any bytes are one.
                Some(unsafe { &*table.add(index as usize) })
            }
        )*
    };
}

tables! {
    trie_slot: Leaf = TRIE4 or SHADOW_TRIE4;
    exact_bucket: ExactBucket = EXACT or SHADOW_EXACT;
    port: u16 = PORTS or SHADOW_PORTS;
    row_of: Pair = PAIRS or SHADOW_PAIRS;
    any_cell: Cell = CELLS or SHADOW_CELLS;
    any_deadline: u64 = DEADLINES or SHADOW_DEADLINES;
}

#[inline(always)]
pub(crate) fn trie<const SHADOW: bool>(block: u32, slot: u8) -> Option<Leaf> {
    let count = if SHADOW { settings::shadow_trie_slots() } else { settings::trie_slots() };
    trie_slot::<SHADOW>(u64::from(block) * BLOCK_SLOTS as u64 | u64::from(slot), count).copied()
}

#[inline(always)]
pub(crate) fn bucket<const SHADOW: bool>(index: u32) -> Option<&'static ExactBucket> {
    exact_bucket::<SHADOW>(index.into(), buckets::<SHADOW>())
}

/// How many buckets the exact table has.
#[inline(always)]
pub(crate) fn buckets<const SHADOW: bool>() -> u32 {
    if SHADOW { settings::shadow_exact_buckets() } else { settings::exact_buckets() }
}

#[inline(always)]
pub(crate) fn port_class<const SHADOW: bool>(index: u32) -> Option<u32> {
    const COUNT: u32 = PORT_BLOCKS * BLOCK_SLOTS as u32;
    port::<SHADOW>(index.into(), COUNT).map(|class| u32::from(*class))
}

#[inline(always)]
pub(crate) fn pair<const SHADOW: bool>(index: u32) -> Option<Pair> {
    let count = if SHADOW { settings::shadow_pair_count() } else { settings::pair_count() };
    row_of::<SHADOW>(index.into(), count).copied()
}

#[inline(always)]
pub(crate) fn cell<const SHADOW: bool>(index: u32) -> Option<Cell> {
    let count = if SHADOW { settings::shadow_cell_count() } else { settings::cell_count() };
    any_cell::<SHADOW>(index.into(), count).copied()
}

#[inline(always)]
pub(crate) fn deadline<const SHADOW: bool>(index: u32) -> Option<u64> {
    let count = if SHADOW { settings::shadow_deadline_count() } else { settings::deadline_count() };
    any_deadline::<SHADOW>(index.into(), count).copied()
}
