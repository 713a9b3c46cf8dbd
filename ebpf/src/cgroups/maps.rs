//! The maps: of one set of programs, which the next replaces as a whole, but for who holds an address.

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie};
use bulkhead_abi::{Address, Holder, PREFIX_OVERLAY};

/// Prefixes of the overlay, and those that never are. The loader sets its size.
#[map]
static OVERLAY: LpmTrie<Address, u32> = LpmTrie::with_max_entries(1, 0);

/// Who holds an overlay address of this host. The agent changes an entry when a unit starts or ends.
#[map]
static HOLDERS: HashMap<Address, Holder> = HashMap::with_max_entries(1, 0);

/// One entry: the id of the last cgroup that the agent has looked at. Ids only rise: a cgroup of a higher one may be
/// a workload's that nobody has told apart yet.
#[map]
static SEEN: Array<u64> = Array::with_max_entries(1, 0);

/// Whether an address is of the overlay.
#[inline(always)]
pub(crate) fn is_overlay(address: &Address) -> bool {
    OVERLAY.get(Key::new(128, *address)).is_some_and(|value| *value == PREFIX_OVERLAY)
}

/// Who holds an address, if it is one of this host's on the overlay.
#[inline(always)]
pub(crate) fn holder(address: &Address) -> Option<Holder> {
    // SAFETY: an element that is replaced meanwhile is read as one of both.
    unsafe { HOLDERS.get(address) }.copied()
}

/// Whether the agent has looked at a cgroup.
#[inline(always)]
pub(crate) fn is_seen(cgroup: u64) -> bool {
    SEEN.get(0).is_some_and(|seen| cgroup <= *seen)
}
