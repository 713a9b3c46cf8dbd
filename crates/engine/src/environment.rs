//! What a decision may look at besides the packet.

use bulkhead_abi::{
    Address, Cell, Direction, FlowKey, FlowValue, FragmentKey, FragmentValue, Leaf, Pair, Rate, RateLimit,
    Routed, Workload,
};

use crate::host_table::Buckets;
use crate::parse::Headers;
use crate::socket::{End, SocketState};
use crate::{Beginning, Packet, RateState, Reason};

/// What the sender of a packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A TCP segment that comes in: this host has no such connection.
    Forgotten,
    /// What begins a conversation, and goes this way: the policy does not admit it.
    Rejected(Direction),
}

/// Everything a decision may look at besides the packet. Implemented by the BPF program over
/// its maps and by [`crate::memory`] over vectors. `None` is a miss, and a miss never passes.
pub trait Environment {
    /// Entry `slot` of block `block` of the IPv4 trie.
    fn trie(&self, block: u32, slot: u8) -> Option<Leaf>;
    /// The table of single addresses.
    fn host_table(&self) -> &impl Buckets;
    /// The leaf of the longest IPv6 prefix that holds this address.
    fn prefix6(&self, address: &Address) -> Option<Leaf>;
    /// Entry of the pair table, see [`bulkhead_abi::pair_index`].
    fn pair(&self, index: u32) -> Option<Pair>;
    /// Entry of the port-class table, see [`bulkhead_abi::port_index`].
    fn port_class(&self, index: u32) -> Option<u32>;
    /// A cell.
    fn cell(&self, index: u32) -> Option<Cell>;
    /// A deadline in ns of [`Self::boot_time`].
    fn deadline(&self, index: u32) -> Option<u64>;
    /// A rate limit.
    fn limit(&self, index: u32) -> Option<RateLimit>;
    /// The word of a rate limit: of its packets at twice its index, of its new flows at one more.
    fn limit_state(&self, index: u32) -> Option<impl RateState>;
    /// The word of the rate at which one address begins flows, made if it is not there.
    fn initiator_state(&self, address: &Address) -> Option<impl RateState>;

    /// The word of the rate of ICMP errors that quote no flow, below [`crate::MISS_WORDS`].
    fn miss_state(&self, word: u32) -> Option<impl RateState>;
    /// The word of the ends that were answered by a reset last, below [`crate::ANSWER_WORDS`].
    fn answer_state(&self, word: u32) -> Option<impl RateState>;
    /// Behind which routers an address lies.
    fn routed(&self, address: &Address) -> Routed;

    /// Whose a local class is, 0 included.
    fn workload(&self, local: u32) -> Option<Workload>;
    /// The id of the cgroup at a level below the root that the socket which sends the packet is in; 0 if there is none.
    fn ancestor(&self, level: u32) -> u64;
    /// The kernel itself sends the packet, and does not forward it.
    fn is_by_kernel(&self) -> bool;
    /// A packet socket sends the packet.
    fn is_by_packet_socket(&self) -> bool;

    /// Time for flows: monotonic, coarse, ns.
    fn flow_time(&self) -> u64;
    /// Time for expiry: ns since boot, suspended time included.
    fn boot_time(&self) -> u64;

    /// The interface hands over Ethernet frames, not bare IP packets.
    fn ethernet(&self) -> bool;
    /// Audit mode: what would be dropped passes.
    fn audit(&self) -> bool;
    /// A verdict on a plain packet may be final at once: no flow is made of what is dropped, and
    /// nothing else waits for the metadata.
    fn has_fast_path(&self) -> bool {
        !self.audit()
    }
    /// The policy has IPv6 prefixes.
    fn has_prefix6(&self) -> bool;
    /// Some cell has a rate limit.
    fn has_limits(&self) -> bool;
    /// Some cell is a management exemption.
    fn has_exemptions(&self) -> bool;
    /// Some cell tells whom it does not admit of it.
    fn has_rejects(&self) -> bool;
    /// Some addresses are multicast groups of feeds.
    fn has_groups(&self) -> bool;
    /// Some addresses lie behind routers.
    fn has_routes(&self) -> bool;
    /// Some local classes are workloads'. What leaves is looked at by who sends it.
    fn has_workloads(&self) -> bool;
    /// The interface is `lo`.
    fn is_loopback(&self) -> bool;
    /// Who sends ICMP errors, and how many, has a say.
    fn judges_errors(&self) -> bool {
        true
    }
    /// Some cell asks how connections begin.
    fn has_tls(&self) -> bool;
    /// A segment that comes before the first bytes of its connection is held back, since those come again.
    fn holds_back(&self) -> bool {
        true
    }
    /// The `count` bytes of the packet at `offset`, 1 to 8 of them, the first one lowest, wherever they lie in memory;
    /// `None`: they cannot be read.
    fn read(&self, packet: &Packet, offset: u32, count: u32) -> Option<u64>;
    /// Counts for a rule how a flow began.
    fn count_beginning(&self, rule: u32, beginning: Beginning);
    /// Flows are told of as rules let them begin.
    fn tells_of_flows(&self) -> bool {
        false
    }
    /// The link protocols that pass: `LINK_` bits.
    fn link(&self) -> u32;
    /// The rate at which one address may begin flows.
    fn new_flows(&self) -> Rate;
    /// Number of local classes.
    fn locals(&self) -> u32;
    /// Number of remote classes.
    fn remotes(&self) -> u32;
    /// The zone that the interface's flows belong to.
    fn zone(&self) -> u16;
    /// The generation's number.
    fn generation(&self) -> u32;
    /// Seconds of silence after which a flow in this [`bulkhead_abi::FlowState`] is over.
    fn timeout(&self, state: u8) -> u32;

    /// The state of this host's TCP socket that has a connection between these ends, in the network
    /// namespace of the packet's interface; else of one that listens there. `version` is IP's.
    fn socket(&self, version: u8, local: End, remote: End) -> SocketState;
    /// Asks for an answer to a packet that is dropped. It may be lost: the packet is sent again.
    fn answer(&self, headers: &Headers, answer: Answer);
    /// First and last of the ports that the kernel gives to connections outwards, host byte order.
    fn outward_ports(&self) -> [u16; 2];
    /// Until when, in seconds of [`Self::flow_time`], TCP connections are taken up that this host
    /// forwards; 0: never.
    fn forwarded_until(&self) -> u32;

    /// Copies a flow; false if there is none. If `seen` says so of the copy, the flow was last
    /// seen now: the time is written where the flow lies.
    fn flow(&self, key: &FlowKey, flow: &mut FlowValue, seen: impl FnOnce(&FlowValue) -> Option<u64>)
    -> bool;
    /// Inserts or replaces a flow.
    ///
    /// # Errors
    /// [`Reason::FlowTableFull`] where the table could not take it.
    fn put_flow(&self, key: &FlowKey, value: &FlowValue) -> Result<(), Reason>;
    /// Removes a flow.
    fn remove_flow(&self, key: &FlowKey);

    /// Copies what is remembered of a fragmented datagram; false if nothing is.
    fn fragment(&self, key: &FragmentKey, value: &mut FragmentValue) -> bool;
    /// Remembers a fragmented datagram.
    ///
    /// # Errors
    /// [`Reason::FragmentTableFull`] where the table could not take it.
    fn put_fragment(&self, key: &FragmentKey, value: &FragmentValue) -> Result<(), Reason>;
    /// Forgets a fragmented datagram.
    fn remove_fragment(&self, key: &FragmentKey);
}
