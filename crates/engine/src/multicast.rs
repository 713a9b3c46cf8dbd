//! Multicast groups: whose they are, and which this host may join.

use bulkhead_abi::{Address, LINK_PTP};

use crate::parse::{Headers, protocol};
use crate::{Calls, Environment};

/// Whether an address is a multicast group.
#[inline(always)]
pub(crate) const fn is_multicast(version: u8, address: &Address) -> bool {
    match version {
        4 => u32::from_be(address[3]) >> 28 == 0xe,
        _ => u32::from_be(address[0]) >> 24 == 0xff,
    }
}

/// Whether a group is one of PTP's: 224.0.1.129 to 132 and 224.0.0.107; ff0x::181 to 184 and ff02::6b (IEEE
/// 1588 annexes C and D).
#[inline(always)]
#[must_use]
pub const fn is_ptp_group(version: u8, address: &Address) -> bool {
    let last = u32::from_be(address[3]);
    if version == 4 {
        return matches!(last, 0xe000_0181..=0xe000_0184 | 0xe000_006b);
    }
    let first = u32::from_be(address[0]);
    first & 0xfff0_ffff == 0xff00_0000
        && address[1] | address[2] == 0
        && (matches!(last, 0x181..=0x184) || (last == 0x6b && first == 0xff02_0000))
}

/// Whether a packet is about membership.
#[inline(always)]
pub(crate) fn is_about_membership(headers: &Headers) -> bool {
    // RFC 3376 section 4 and RFC 3810 section 5: a TTL of 1, so that no router has forwarded it; and to a group,
    // so that nobody asks this host alone.
    headers.hop_limit == 1
        && headers.fragment_end == 0
        && is_multicast(headers.version, &headers.destination)
        && match (headers.version, headers.protocol) {
            (4, protocol::IGMP) => true,
            (6, protocol::ICMPV6) => matches!(headers.detail, 130..=132 | 143),
            _ => false,
        }
}

/// Whether some groups may be joined and others may not.
#[inline(always)]
#[must_use]
pub fn reads_reports(env: &impl Environment) -> bool {
    env.has_groups() || env.link() & LINK_PTP != 0
}

/// A group of a feed; one of PTP's, where that passes; or one of the link itself, which no router forwards
/// and which hosts report along with the others (224.0.0.0/24, ff02::/16).
#[inline(always)]
pub(crate) fn may_join(env: &impl Calls, version: u8, group: &Address) -> bool {
    let (first, last) = (u32::from_be(group[0]), u32::from_be(group[3]));
    let of_link = match version {
        4 => last >> 8 == 0x00e0_0000,
        _ => first >> 16 == 0xff02,
    };
    let of_ptp = env.link() & LINK_PTP != 0 && is_ptp_group(version, group);
    of_link
        || of_ptp
        || (is_multicast(version, group) && env.leaf(version, group).is_ok_and(|leaf| leaf.own()))
}
