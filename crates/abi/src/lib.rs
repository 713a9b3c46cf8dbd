//! Layouts and reasons: what the kernel program, the compiler, the agent and older versions of them share.
//!
//! Everything here is plain old data: `repr(C)`, no padding, no `bool`, `Option` or Rust
//! enum, sizes asserted at compile time. Integers are in the CPU's byte order unless a
//! field says otherwise. A change to any of these that lies in a map is a new [`VERSION`].
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod address;
mod answer;
mod cell;
mod cgroup;
mod defaults;
mod event;
mod flow;
mod fragment;
mod host_table;
mod limit;
mod pair;
mod port;
mod protocol;
mod reason;
mod recall;
mod routed;
mod settings;
mod slot;
mod tls;
mod word;
mod workload;

pub use address::{Address, BLOCK_SLOTS, Leaf, LpmKey, TRIE_ROOT_BLOCKS, from_ip, to_ip};
pub use answer::{ANSWER_FORGOTTEN, ANSWER_REJECTED, AnswerRequest};
pub use cell::{
    CELL_ALLOW, CELL_CLOSED, CELL_DEFAULT_DENY, CELL_DENY, CELL_EXEMPT, CELL_NONE, CELL_ONE_WAY, CELL_REJECT,
    CELL_TLS, CELL_TLS_POSTGRES, CELL_TLS_REQUIRED, Cell, MAX_EXPIRY_CHAIN, NO_RULE,
};
pub use cgroup::{CgroupSettings, Holder, PREFIX_OTHER, PREFIX_OVERLAY, WORKLOAD_ADDRESSES};
pub use defaults::{Capacity, DEFAULT_NEW_FLOWS, default_timeouts, per_second};
pub use event::{
    AggregateKey, AggregateValue, EVENT_AUDIT, EVENT_ODD, Event, KIND_ALLOWED, KIND_DROP, KIND_SENDER,
    KIND_STAGED, LOSSES, LOST_BUDGET, LOST_RING, LOST_STAGED, staged_index,
};
pub use flow::{
    FLOW_AUDIT, FLOW_ESTABLISHED, FLOW_FIN_INITIATOR, FLOW_FIN_RESPONDER, FLOW_TLS, FlowKey, FlowRecord,
    FlowState, FlowValue, IMPORT_EVICTED, IMPORT_KEPT, IMPORT_MALFORMED, IMPORT_REFUSED, IMPORT_STORED,
    RECORD_NEW, TIMEOUTS, Timeouts,
};
pub use fragment::{FRAGMENT_TIMEOUT, FragmentKey, FragmentValue};
pub use host_table::{BUCKET_PLACES, HostBucket, HostKey, exact_address, host_key};
pub use limit::{Rate, RateLimit};
pub use pair::{Pair, pair_index};
pub use port::{PORT_BLOCKS, PortSlot, port_index};
pub use protocol::{PROTOCOLS, protocol_name, protocol_number};
pub use reason::{Action, REASONS, Reason};
pub use recall::recall;
pub use routed::Routed;
pub use settings::{
    AllowedReports, DIRECTIONS, Direction, FEATURE_AUDIT, FEATURE_EXEMPT, FEATURE_FIXED_CLOCK,
    FEATURE_GROUPS, FEATURE_IPV6_LPM, FEATURE_LIMITS, FEATURE_LOOPBACK, FEATURE_REJECT, FEATURE_ROUTES,
    FEATURE_STAGED, FEATURE_TLS, FEATURE_WORKLOADS, INTERFACE_BARE_IP, INTERFACE_ETHERNET, LINK_BFD,
    LINK_BFD_LAG, LINK_BFD_MULTIHOP, LINK_DATAGRAMS, LINK_DHCP, LINK_EAPOL, LINK_IGMP, LINK_LACP, LINK_LLDP,
    LINK_MACSEC, LINK_PTP, LINK_PTP_UNICAST, LINK_RA, LINK_VRRP, MAX_TABLE_BYTES, NESTING_LEVELS, Settings,
};
pub use slot::{BUCKET_SLOTS, FlowBucket, FlowSlot, Head, KeyWords};
pub use tls::{TLS_BEGAN, TLS_COUNTS, TLS_PLAINTEXT, TLS_UNVERIFIED, TlsCounts, tls_index};
pub use word::Word;
pub use workload::Workload;

/// The map ABI version. It names the bpffs directory, so that objects of another map ABI are
/// never reused silently. [`Settings`] has none: it is part of each program, and read by no other.
pub const VERSION: u32 = 9;

/// Counters of packets and bytes, one per rule and CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes at the IP layer and above (no link header).
    pub bytes: u64,
}
const _: () = assert!(size_of::<Counter>() == 16);
