//! Multicast membership: a host says which groups it wants (IGMP, RFC 3376 and 2236; MLD, RFC
//! 3810 and 2710). It may want the groups of its feeds and no others.

use crate::link::{is_multicast, is_ptp_group};
use crate::parse::{Headers, mapped, protocol};
use crate::report::begin;
use crate::{Case, Environment, Outcome, Packet, Reason};
use bulkhead_abi::{Address, Direction, LINK_IGMP, LINK_PTP};

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

/// Whether a packet is about membership where that is looked at.
#[inline(always)]
pub(crate) fn is_membership(env: &impl Environment, headers: &Headers) -> bool {
    (reads_reports(env) || env.link() & LINK_IGMP != 0) && is_about_membership(headers)
}

/// Whether some groups may be joined and others may not.
#[inline(always)]
#[must_use]
pub fn reads_reports(env: &impl Environment) -> bool {
    env.has_groups() || env.link() & LINK_PTP != 0
}

/// Decides on a packet about membership: questions come in, answers go out. Of a report of many groups
/// ([`crate::report`]) the records are still to be judged; until then it is dropped.
#[inline(never)]
pub(crate) fn membership(env: &impl Environment, packet: &Packet, case: &mut Case, direction: Direction) {
    case.outcome = Outcome::of(Reason::MembershipGroup);
    case.outcome.reason = judge(env, packet, &mut case.headers, direction);
}

#[inline(always)]
fn judge(env: &impl Environment, packet: &Packet, headers: &mut Headers, direction: Direction) -> Reason {
    if env.link() & LINK_IGMP != 0 {
        return Reason::Membership;
    }
    let at = headers.transport as usize;
    let Some(fixed) = packet.header::<8>(at) else {
        return Reason::TransportTruncated;
    };
    if headers.transport_length < 8 {
        return Reason::TransportTruncated;
    }
    let kind = fixed.byte(0);
    headers.detail = kind;
    let group = match (headers.version, kind) {
        (4, 0x11) | (6, 130) if direction == Direction::Ingress => return Reason::Membership,
        _ if direction == Direction::Ingress => return Reason::MembershipGroup,
        // Reports of versions 1 and 2, and leaving.
        (4, 0x12 | 0x16 | 0x17) => mapped(fixed.word(4)),
        (6, 131 | 132) => match packet.header::<16>(at + 8) {
            Some(group) if headers.transport_length >= 24 => group.words(0),
            _ => return Reason::TransportTruncated,
        },
        (4, 0x22) | (6, 143) => {
            begin(headers);
            return Reason::MembershipGroup;
        }
        _ => return Reason::MembershipGroup,
    };
    if may_join(env, headers.version, &group) {
        Reason::Membership
    } else {
        headers.destination = group;
        Reason::MembershipGroup
    }
}

/// A group of a feed; one of PTP's, where that passes; or one of the link itself, which no router forwards
/// and which hosts report along with the others (224.0.0.0/24, ff02::/16).
#[inline(always)]
pub(crate) fn may_join(env: &impl Environment, version: u8, group: &Address) -> bool {
    let (first, last) = (u32::from_be(group[0]), u32::from_be(group[3]));
    let (multicast, of_link) = match version {
        4 => (last >> 28 == 0xe, last >> 8 == 0x00e0_0000),
        _ => (first >> 24 == 0xff, first >> 16 == 0xff02),
    };
    let of_ptp = env.link() & LINK_PTP != 0 && is_ptp_group(version, group);
    of_link || of_ptp || (multicast && env.leaf(version, group).is_ok_and(|leaf| leaf.own()))
}
