//! The look-up trait and the walks over the class tables.

use crate::layout::{Address, Cell, Direction, FlowKey, FlowValue, Leaf, Pair, TRIE_ROOT_BLOCKS};

/// Everything a decision may look at besides the packet. Implemented by the BPF program over
/// its maps and by [`crate::memory`] over vectors. `None` is a miss, and a miss never passes.
pub trait Environment {
    /// Entry `slot` of block `block` of the IPv4 trie.
    fn trie(&self, block: u32, slot: u8) -> Option<Leaf>;
    /// The leaf of exactly this IPv6 address.
    fn exact6(&self, address: &Address) -> Option<Leaf>;
    /// The leaf of the longest IPv6 prefix that holds this address.
    fn prefix6(&self, address: &Address) -> Option<Leaf>;
    /// Entry of the pair table, see [`crate::layout::pair_index`].
    fn pair(&self, index: u32) -> Option<Pair>;
    /// Entry of the port-class table, see [`crate::layout::port_index`].
    fn port_class(&self, index: u32) -> Option<u32>;
    /// A cell.
    fn cell(&self, index: u32) -> Option<Cell>;
    /// A deadline in ns of [`Self::boot_time`].
    fn deadline(&self, index: u32) -> Option<u64>;

    /// Time for flows: monotonic, coarse, ns.
    fn flow_time(&self) -> u64;
    /// Time for expiry: ns since boot, suspended time included.
    fn boot_time(&self) -> u64;

    /// The interface hands over Ethernet frames, not bare IP packets.
    fn ethernet(&self) -> bool;
    /// The policy has IPv6 prefixes.
    fn has_prefix6(&self) -> bool;
    /// Number of local classes.
    fn locals(&self) -> u32;
    /// Number of remote classes.
    fn remotes(&self) -> u32;
    /// The zone that the interface's flows belong to.
    fn zone(&self) -> u16;
    /// The generation's number.
    fn generation(&self) -> u32;
    /// Seconds of silence after which a flow in this [`crate::layout::FlowState`] is over.
    fn timeout(&self, state: u8) -> u16;

    /// A flow of one of the two tables, copied.
    fn flow(&self, table: FlowTable, key: &FlowKey) -> Option<FlowValue>;
    /// Writes the time a flow was last seen, through the element's pointer.
    fn touch_flow(&self, table: FlowTable, key: &FlowKey, now: u64);
    /// Inserts or replaces a flow.
    fn put_flow(&self, table: FlowTable, key: &FlowKey, value: &FlowValue) -> Result<(), ()>;
    /// Removes a flow.
    fn remove_flow(&self, table: FlowTable, key: &FlowKey);
}
