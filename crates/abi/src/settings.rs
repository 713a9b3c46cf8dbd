//! What a program is specialised by: its read-only globals.

use crate::{Rate, TIMEOUTS, Timeouts};

/// The interface hands over Ethernet frames.
pub const INTERFACE_ETHERNET: u8 = 0;
/// The interface hands over bare IP packets (WireGuard, TUN).
pub const INTERFACE_BARE_IP: u8 = 1;

/// The policy has IPv6 prefixes: an address that the host table misses is looked up in the LPM trie.
pub const FEATURE_IPV6_LPM: u32 = 1;
/// Audit mode: what would be dropped is reported and passes.
pub const FEATURE_AUDIT: u32 = 1 << 1;
/// The clock is a setting, for tests.
pub const FEATURE_FIXED_CLOCK: u32 = 1 << 2;
/// Some cell has a rate limit.
pub const FEATURE_LIMITS: u32 = 1 << 3;
/// A second generation observes, and where it decides otherwise that is reported.
pub const FEATURE_STAGED: u32 = 1 << 4;
/// Some cell is a management exemption, which quarantine does not touch.
pub const FEATURE_EXEMPT: u32 = 1 << 5;
/// The policy has multicast groups: membership reports for them pass.
pub const FEATURE_GROUPS: u32 = 1 << 6;
/// Some addresses lie behind routers.
pub const FEATURE_ROUTES: u32 = 1 << 7;
/// Some own addresses are workloads': who sends from one is looked at as it leaves.
pub const FEATURE_WORKLOADS: u32 = 1 << 8;
/// The interface is `lo`: both ends of a packet may be own, and what is between no workload's addresses passes.
pub const FEATURE_LOOPBACK: u32 = 1 << 9;

/// Some cell asks how connections begin.
pub const FEATURE_TLS: u32 = 1 << 10;
/// Some cell tells whom it does not admit of it.
pub const FEATURE_REJECT: u32 = 1 << 11;

/// How many programs can be at work on one CPU of a real-time kernel at a time. A power of two.
pub const NESTING_LEVELS: u32 = 16;

/// Link protocol: LACP and marker, EtherType 0x8809 (IEEE 802.1AX).
pub const LINK_LACP: u32 = 1;
/// Link protocol: LLDP, EtherType 0x88cc (IEEE 802.1AB).
pub const LINK_LLDP: u32 = 1 << 1;
/// Link protocol: PTP, EtherType 0x88f7, and UDP 319 and 320 to its groups (IEEE 1588).
pub const LINK_PTP: u32 = 1 << 2;
/// Link protocol: DHCP, UDP 67 and 68 (RFC 2131), and DHCPv6, UDP 546 and 547 (RFC 8415).
pub const LINK_DHCP: u32 = 1 << 3;
/// Link protocol: single-hop BFD, UDP 3784 and 3785 with a TTL of 255 (RFC 5881).
pub const LINK_BFD: u32 = 1 << 4;
/// Link protocol: IGMP (RFC 3376) and MLD (RFC 3810), for any group.
pub const LINK_IGMP: u32 = 1 << 5;
/// Link protocol: IPv6 router advertisements and solicitations with a hop limit of 255 (RFC 4861).
pub const LINK_RA: u32 = 1 << 6;
/// Link protocol: VRRP, IP protocol 112 to its group with a TTL of 255 (RFC 9568).
pub const LINK_VRRP: u32 = 1 << 7;
/// Link protocol: PTP, UDP 319 and 320 to one host (IEEE 1588, annexes C and D).
pub const LINK_PTP_UNICAST: u32 = 1 << 8;
/// Link protocol: multihop BFD, UDP 4784 (RFC 5883).
pub const LINK_BFD_MULTIHOP: u32 = 1 << 9;
/// Link protocol: micro-BFD on the members of a LAG, UDP 6784 with a TTL of 255 (RFC 7130).
pub const LINK_BFD_LAG: u32 = 1 << 10;
/// Link protocol: EAPOL, EtherType 0x888e (IEEE 802.1X).
pub const LINK_EAPOL: u32 = 1 << 11;
/// Link protocol: MACsec, EtherType 0x88e5 (IEEE 802.1AE).
pub const LINK_MACSEC: u32 = 1 << 12;
/// The link protocols that come in UDP datagrams.
pub const LINK_DATAGRAMS: u32 =
    LINK_PTP | LINK_DHCP | LINK_BFD | LINK_PTP_UNICAST | LINK_BFD_MULTIHOP | LINK_BFD_LAG;

/// Number of directions.
pub const DIRECTIONS: u32 = 2;

/// Which way a packet goes, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into this host.
    Ingress,
    /// Out of this host.
    Egress,
}

impl Direction {
    /// 0 for ingress, 1 for egress.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::Ingress => 0,
            Self::Egress => 1,
        }
    }

    /// The direction of an index; every one but 0 is egress.
    #[inline(always)]
    #[must_use]
    pub const fn of_index(index: u32) -> Self {
        if index == 0 { Self::Ingress } else { Self::Egress }
    }

    /// The other direction.
    #[inline(always)]
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }

    /// `ingress` or `egress`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// The most bytes of a table that programs address directly: the verifier follows no offset as large as
/// this (`BPF_MAX_VAR_OFF`, linux/bpf_verifier.h).
pub const MAX_TABLE_BYTES: usize = 1 << 29;

/// Which flows are told of as rules let them begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedReports {
    /// How many a second, by one CPU; 0: none.
    pub budget: u32,
    /// One of so many; a power of two.
    pub one_in: u32,
}

impl AllowedReports {
    /// None is.
    pub const NONE: Self = Self { budget: 0, one_in: 1 };
}

/// Constants of one program: one interface in one generation. The verifier removes the code
/// that they make unreachable.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The fixed clock, boot-time ns. Used with [`FEATURE_FIXED_CLOCK`].
    pub fixed_clock: u64,
    /// How many flows one address may begin; an interval of 0: any number.
    pub new_flows: Rate,
    /// Number of the generation, from 1.
    pub generation: u32,
    /// `FEATURE_` bits.
    pub features: u32,
    /// Local classes: 1 to this number.
    pub locals: u32,
    /// Remote classes, 'unknown' included: 0 to this number − 1.
    pub remotes: u32,
    /// How long a flow may be silent, by state.
    pub timeouts: Timeouts,
    /// Drops that one CPU reports in a second; what is beyond is counted only.
    pub event_budget: u32,
    /// Flows that one CPU tells of in a second as rules let them begin; 0: none.
    pub allowed_budget: u32,
    /// One of so many of them is told of: one less than a power of two.
    pub allowed_mask: u32,
    /// The highest bucket of the table of flows: one less than a power of two.
    pub flow_mask: u32,
    /// Until when connections that the host forwards are taken up, seconds of the flow clock; 0: never.
    pub forwarded_until: u32,
    /// `LINK_` bits: the link protocols that pass.
    pub link: u32,
    /// First and last of the ports that the kernel gives to connections outwards
    /// (`net.ipv4.ip_local_port_range`, which counts for IPv6 as well), host byte order.
    pub outward_ports: [u16; 2],
    /// Remote classes from this number on are wide: they hold so many addresses that to be one of them says nothing.
    pub wide: u32,
    /// The interfaces that share flows have one zone; a configured number, never an interface index.
    pub zone: u16,
    /// [`INTERFACE_ETHERNET`] or [`INTERFACE_BARE_IP`].
    pub interface: u8,
    /// Zero.
    pub reserved: [u8; 5],
}
const _: () = assert!(size_of::<Settings>() == 144);

impl Settings {
    /// All zeros: no generation, no feature, every flow over at once.
    pub const UNSET: Self = Self {
        fixed_clock: 0,
        new_flows: Rate { interval: 0, tolerance: 0 },
        generation: 0,
        features: 0,
        locals: 0,
        remotes: 0,
        timeouts: Timeouts([0; TIMEOUTS]),
        event_budget: 0,
        allowed_budget: 0,
        allowed_mask: 0,
        flow_mask: 0,
        forwarded_until: 0,
        link: 0,
        outward_ports: [0, 0],
        wide: 0,
        zone: 0,
        interface: 0,
        reserved: [0; 5],
    };
}
