//! The tables of a generation as memory that a program addresses directly, as it does its own
//! globals: each is an array map of one value. The loader makes them and writes into the program
//! where they are and where they end (docs/decisions/0019); what is left of a look-up is one
//! comparison.

use core::arch::asm;

use bulkhead_abi::{BLOCK_SLOTS, Cell, HostBucket, Leaf, Pair, Workload};

/// Entry `index` of a table whose last entry begins `last` bytes behind its first.
///
/// # Safety
/// That must be so, and any bytes be a `T`.
#[inline(always)]
unsafe fn entry<T>(table: *const T, last: u64, index: u64) -> Option<&'static T> {
    let offset = index * size_of::<T>() as u64;
    let mut entry = table;
    // Comparison and addition are next to each other: where the compiler keeps the offset elsewhere in
    // between, verifiers before 6.8 do not know any more that it was compared.
    // SAFETY: an entry begins there.
    unsafe {
        asm!(
            "if {offset} > {last} goto {beyond}",
            "{entry} += {offset}",
            offset = in(reg) offset,
            last = in(reg) last,
            entry = inout(reg) entry,
            beyond = label { return None },
            options(nomem, nostack, preserves_flags),
        );
        Some(&*entry)
    }
}

macro_rules! tables {
    ($($read:ident: $type:ty = $table:ident to $last:ident or $staged:ident to $staged_last:ident;)*) => {
        // Defined nowhere, so that the object keeps a place for each address. Where a `_LAST` seems to
        // lie is how many bytes behind the first entry the last one begins.
        unsafe extern "C" {
            $(
                static mut $table: $type;
                static $last: u8;
                static mut $staged: $type;
                static $staged_last: u8;
            )*
        }
        $(
            /// An entry of the enforced generation's table, or of the one that observes.
            #[inline(always)]
            pub(crate) fn $read<const STAGED: bool>(index: u64) -> Option<&'static $type> {
                let (table, last) = if STAGED {
                    (&raw const $staged, &raw const $staged_last)
                } else {
                    (&raw const $table, &raw const $last)
                };
                // SAFETY: the loader says where the last one begins; layout types are any bytes.
                unsafe { entry(table, last.addr() as u64, index) }
            }
        )*
    };
}

tables! {
    trie_slot: Leaf = TRIE4 to TRIE4_LAST or STAGED_TRIE4 to STAGED_TRIE4_LAST;
    exact_bucket: HostBucket = HOST_TABLE to HOST_TABLE_LAST or STAGED_HOST_TABLE to STAGED_HOST_TABLE_LAST;
    pair: Pair = PAIRS to PAIRS_LAST or STAGED_PAIRS to STAGED_PAIRS_LAST;
    cell: Cell = CELLS to CELLS_LAST or STAGED_CELLS to STAGED_CELLS_LAST;
    port: u16 = PORTS to PORTS_LAST or STAGED_PORTS to STAGED_PORTS_LAST;
    workload: Workload = WORKLOADS to WORKLOADS_LAST or STAGED_WORKLOADS to STAGED_WORKLOADS_LAST;
    deadline: u64 = DEADLINES to DEADLINES_LAST or STAGED_DEADLINES to STAGED_DEADLINES_LAST;
}

/// An entry of a block of the trie.
#[inline(always)]
pub(crate) fn trie<const STAGED: bool>(block: u32, slot: u8) -> Option<Leaf> {
    trie_slot::<STAGED>(u64::from(block) * BLOCK_SLOTS as u64 | u64::from(slot)).copied()
}

/// How many buckets the host table has.
#[inline(always)]
pub(crate) fn exact_buckets<const STAGED: bool>() -> u32 {
    let last = if STAGED { &raw const STAGED_HOST_TABLE_LAST } else { &raw const HOST_TABLE_LAST };
    (last.addr() / size_of::<HostBucket>()) as u32 + 1
}

/// An entry of the port-class table. That it always has the same size must stay unknown to the compiler:
/// it would leave the comparison out for a port, and verifiers before 6.18 know no bounds of what a swap
/// of bytes leaves.
#[inline(always)]
pub(crate) fn port_class<const STAGED: bool>(index: u32) -> Option<u32> {
    port::<STAGED>(index.into()).map(|class| u32::from(*class))
}
