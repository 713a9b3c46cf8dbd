//! Why a packet passed or was dropped. Numbers are append-only: events and counters on disk
//! name them.

macro_rules! reasons {
    ($($number:literal $variant:ident $name:literal $verdict:ident $concern:ident $doc:literal;)*) => {
        /// The numbered reason of a verdict.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $doc] $variant = $number,)*
        }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The reason of a number.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its stable name, as in events and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => $doc,)*
                }
            }

            /// What happens to a packet for this reason.
            #[inline(always)]
            #[must_use]
            pub const fn action(self) -> Action {
                match self {
                    $(Self::$variant => Action::$verdict,)*
                }
            }

            #[inline(always)]
            const fn concern(self) -> Concern {
                match self {
                    $(Self::$variant => Concern::$concern,)*
                }
            }
        }
    };
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It goes on its way.
    Pass,
    /// It is dropped.
    Drop,
}

/// What a verdict depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Concern {
    /// The rules, and the flows that they admit.
    Policy,
    /// A flow that the rules once admitted.
    Revoked,
    /// How much there was of it.
    Rate,
    /// What the host is set to beside its policy: who is cut off, link protocols, membership, ICMP errors.
    Host,
    /// The packet itself, or a table that failed.
    Packet,
}

reasons! {
    0 Rule "rule" Pass Policy "An accept rule admits it.";
    1 Reply "reply" Pass Policy "It is the reply side of a tracked flow that the policy still allows.";
    2 IcmpError "icmp_error" Pass Policy "It is an ICMP error about a tracked flow that the policy still allows.";
    3 Arp "arp" Pass Packet "ARP on an Ethernet interface.";
    4 NeighbourDiscovery "neighbour_discovery" Pass Packet "IPv6 neighbour discovery on an Ethernet interface.";
    5 Fragment "fragment" Pass Packet "It continues a datagram whose first fragment passed.";
    6 AuditReply "audit_reply" Pass Policy "It is the reply side of a flow that audit mode let pass.";
    7 Link "link" Pass Host "A link protocol that the configuration names.";
    8 Membership "membership" Pass Host "A membership report for, or a query about, multicast groups of a venue's feeds.";
    9 Reset "reset" Pass Policy "It resets a TCP connection that is not tracked, and that the policy would let its receiver begin.";
    10 Resumed "resumed" Pass Policy "It continues a connection of this host's sockets that the policy allows and that was not tracked any more.";
    11 MembershipMasked "membership_masked" Pass Packet "A membership report that leaves without the groups of no feed that it named.";
    12 Loopback "loopback" Pass Host "On lo, between ends neither of which is a workload's, or both one's.";

    16 NoRule "no_rule" Drop Policy "No rule admits it, and it is no reply.";
    17 DenyRule "deny_rule" Drop Policy "A deny rule names it, and it is no reply.";
    18 UnknownAddress "unknown_address" Drop Policy "The other end is in neither the inventory nor any rule.";
    19 NotLocal "not_local" Drop Packet "It is not between this node's addresses or routes and another's.";
    20 Quarantined "quarantined" Drop Host "One end is quarantined.";
    21 NoFlow "no_flow" Drop Policy "It could be a reply, but belongs to no tracked flow.";
    22 FlowExpired "flow_expired" Drop Policy "It belongs to a flow that was silent for too long.";
    23 FlowRevoked "flow_revoked" Drop Revoked "It belongs to a flow that the policy no longer allows.";
    24 IcmpType "icmp_type" Drop Packet "An ICMP message that is no echo and no error.";
    25 IcmpErrorUnrelated "icmp_error_unrelated" Drop Packet "An ICMP error that quotes no tracked flow of its receiver.";
    26 IcmpErrorMalformed "icmp_error_malformed" Drop Packet "An ICMP error whose quoted packet cannot be parsed.";

    27 VenueDefaultDeny "venue_default_deny" Drop Policy "It is between a venue and this side, and in none of the venue's lanes.";
    28 PacketRate "packet_rate" Drop Rate "Its rule's packet rate is used up.";
    29 NewFlowRate "new_flow_rate" Drop Rate "The rate at which its rule lets flows begin is used up.";
    30 InitiatorRate "initiator_rate" Drop Rate "Its sender begins flows, or resets what is not tracked, faster than any one may.";
    31 MembershipGroup "membership_group" Drop Host "A membership report for a group of no feed.";

    32 LinkTruncated "link_truncated" Drop Packet "The frame ends inside its link header.";
    33 LinkProtocol "link_protocol" Drop Packet "A link-layer protocol other than IPv4, IPv6, ARP and those that the configuration names.";
    34 VlanDepth "vlan_depth" Drop Packet "More than two VLAN tags.";
    35 IpVersion "ip_version" Drop Packet "The IP version is neither 4 nor 6, or not what the link header says.";
    36 IpTruncated "ip_truncated" Drop Packet "The packet ends inside its IP header.";
    37 IpHeaderLength "ip_header_length" Drop Packet "The IPv4 header length is below 20 bytes or beyond the packet.";
    38 IpLength "ip_length" Drop Packet "The IP length is shorter than the headers or longer than the packet.";
    39 IpOption "ip_option" Drop Packet "A malformed IPv4 option.";
    40 SourceRoute "source_route" Drop Packet "Source routing: LSRR, SSRR, or a routing header with segments left.";
    41 ExtensionHeader "extension_header" Drop Packet "A malformed or misplaced IPv6 extension header.";
    42 ExtensionDepth "extension_depth" Drop Packet "More IPv6 extension headers than are walked.";
    43 NoNextHeader "no_next_header" Drop Packet "IPv6 without an upper layer.";
    44 FragmentOrphan "fragment_orphan" Drop Packet "A fragment that follows no remembered first fragment.";
    45 FragmentTiny "fragment_tiny" Drop Packet "A first fragment that does not hold the whole transport header.";
    46 FragmentInvalid "fragment_invalid" Drop Packet "A fragment whose offset or length cannot be.";
    47 TransportTruncated "transport_truncated" Drop Packet "The packet ends inside its transport header.";
    48 TcpHeaderLength "tcp_header_length" Drop Packet "The TCP header length is below 20 bytes or beyond the packet.";
    49 TcpFlags "tcp_flags" Drop Packet "TCP flags that no TCP stack sends together.";
    50 UdpLength "udp_length" Drop Packet "The UDP length is below 8 bytes or beyond the packet.";
    51 SctpChunk "sctp_chunk" Drop Packet "A malformed first SCTP chunk, or an INIT bundled with others.";
    52 IcmpFamily "icmp_family" Drop Packet "ICMP over IPv6, or ICMPv6 over IPv4.";
    53 FragmentOverlap "fragment_overlap" Drop Packet "A fragment that overlaps the one before it.";
    54 FragmentOrder "fragment_order" Drop Packet "A fragment that leaves a gap behind the one before it.";
    55 MappedAddress "mapped_address" Drop Packet "IPv6 with an IPv4-mapped address, which belongs on no wire.";
    56 IcmpErrorSource "icmp_error_source" Drop Host "An ICMP error of an overlay peer that is neither the destination of the packet quoted nor a router for it.";
    57 IcmpErrorRate "icmp_error_rate" Drop Host "An ICMP error about an address of which too many came that quote no tracked flow.";
    58 RouterDiscovery "router_discovery" Drop Packet "An IPv6 router advertisement or solicitation, where the configuration does not name them.";
    59 WorkloadSpoofed "workload_spoofed" Drop Host "Its sender may not send from its source: a workload's address that is another's, or a packet socket.";
    60 NotTls "not_tls" Drop Policy "It is of a connection that did not begin as TLS, and its rule requires that.";
    61 TlsUnseen "tls_unseen" Drop Policy "It comes before the first bytes of a connection that has to begin as TLS were seen, or they cannot be read.";

    64 LookupFailed "lookup_failed" Drop Packet "A table look-up that cannot miss did. Please report it.";
    65 FlowTableFull "flow_table_full" Drop Packet "The kernel could not store the flow.";
    66 ExpiryChain "expiry_chain" Drop Packet "More expired rules in a row than are walked.";
    67 FragmentTableFull "fragment_table_full" Drop Packet "The kernel could not remember the first fragment.";
    68 NestingDepth "nesting_depth" Drop Packet "More packets were at work on one CPU at a time than it has places for (real-time kernels).";
}

impl Reason {
    /// The packet is well formed, and only the policy, or a rate, speaks against it.
    #[inline(always)]
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(self.action(), Action::Drop) && matches!(self.concern(), Concern::Policy | Concern::Rate)
    }

    /// It is dropped in audit mode as well: somebody is cut off on purpose, or speaks to other hosts as somebody else.
    #[inline(always)]
    #[must_use]
    pub const fn drops_in_audit(self) -> bool {
        matches!(self, Self::Quarantined | Self::WorkloadSpoofed)
    }

    /// Another policy could decide otherwise, on the same packet of the same host.
    #[inline(always)]
    #[must_use]
    pub const fn is_of_policy(self) -> bool {
        !matches!(self.concern(), Concern::Rate | Concern::Host)
    }

    /// A drop for this reason is between ends that the rules know.
    #[inline(always)]
    #[must_use]
    pub const fn knows_both_ends(self) -> bool {
        matches!(self.action(), Action::Drop)
            && matches!(self.concern(), Concern::Policy | Concern::Revoked | Concern::Rate)
            && !matches!(self, Self::UnknownAddress)
    }

    /// The packet ended where a header was expected: with more of it in linear memory it might parse.
    #[inline(always)]
    #[must_use]
    pub const fn is_truncation(self) -> bool {
        matches!(
            self,
            Self::LinkTruncated | Self::IpTruncated | Self::TransportTruncated | Self::FragmentTiny
        )
    }
}

/// Reasons are below this number: the size of the counters' table for one direction.
pub const REASONS: u32 = 128;

#[cfg(test)]
mod tests {
    use super::{REASONS, Reason};

    #[test]
    fn numbers_and_names_are_unique_and_fit() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        for &reason in Reason::ALL {
            assert!((reason as u32) < REASONS);
            assert_eq!(Reason::from_number(reason as u8), Some(reason));
        }
    }
}
