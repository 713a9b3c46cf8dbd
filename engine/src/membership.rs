//! Multicast membership: a host says which groups it wants (IGMP, RFC 3376 and 2236; MLD, RFC
//! 3810 and 2710). It may want the groups of its feeds and no others.

use crate::layout::{Address, Direction, LINK_IGMP};
use crate::packet::recall;
use crate::parse::{Headers, mapped, protocol};
use crate::{Case, Environment, Outcome, Packet, Reason};

/// Group records read of one report; one with more is dropped. Each costs the verifier some
/// thousand steps of its million.
const MAX_RECORDS: u32 = 64;

/// Whether a packet is about membership where that is looked at.
#[inline(always)]
pub(crate) fn is_membership(env: &impl Environment, headers: &Headers) -> bool {
    (env.has_groups() || env.link() & LINK_IGMP != 0)
        && headers.first_fragment == 0
        && match (headers.version, headers.protocol) {
            (4, protocol::IGMP) => true,
            // RFC 3810 section 5: from a link-local address, with a hop limit of 1.
            (6, protocol::ICMPV6) => matches!(headers.detail, 130..=132 | 143) && headers.hop_limit == 1,
            _ => false,
        }
}

/// Decides on a packet about membership: questions come in, answers go out. Through memory: the
/// verifier would otherwise follow what comes after once for every record that is the last.
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
    let passes = match (headers.version, kind) {
        (4, 0x11) | (6, 130) => direction == Direction::Ingress,
        _ if direction == Direction::Ingress => false,
        // Reports of versions 1 and 2, and leaving.
        (4, 0x12 | 0x16 | 0x17) => may_join(env, 4, &mapped(fixed.word(4))),
        (6, 131 | 132) => match packet.header::<16>(at + 8) {
            Some(group) if headers.transport_length >= 24 => may_join(env, 6, &group.words(0)),
            _ => return Reason::TransportTruncated,
        },
        (4, 0x22) | (6, 143) => return report(env, packet, headers, fixed.be16(6)),
        _ => false,
    };
    if passes { Reason::Membership } else { Reason::MembershipGroup }
}

/// A report of many groups (IGMPv3, MLDv2): every one must be allowed. The cursor is kept in
/// memory: see [`crate::parse`].
#[inline(always)]
fn report(env: &impl Environment, packet: &Packet, headers: &mut Headers, records: u16) -> Reason {
    let end = headers.transport + headers.transport_length;
    let version = headers.version;
    let address = if version == 4 { 4 } else { 16 };
    headers.transport += 8;
    for index in 0..=MAX_RECORDS {
        if index >= u32::from(records) {
            return Reason::Membership;
        }
        let at = recall(&headers.transport);
        let Some(fixed) = packet.header::<8>(at as usize) else {
            return Reason::TransportTruncated;
        };
        let group = if version == 4 {
            mapped(fixed.word(4))
        } else {
            match packet.header::<16>(at as usize + 4) {
                Some(group) => group.words(0),
                None => return Reason::TransportTruncated,
            }
        };
        let next = at + 4 + address + u32::from(fixed.be16(2)) * address + u32::from(fixed.byte(1)) * 4;
        if next > end {
            return Reason::TransportTruncated;
        }
        if !may_join(env, version, &group) {
            return Reason::MembershipGroup;
        }
        headers.transport = next;
    }
    Reason::MembershipGroup
}

/// A group of a feed; or one of the link itself, which no router forwards and which hosts
/// report along with the others (224.0.0.0/24, ff02::/16).
#[inline(always)]
fn may_join(env: &impl Environment, version: u8, group: &Address) -> bool {
    let (first, last) = (u32::from_be(group[0]), u32::from_be(group[3]));
    let (multicast, of_link) = match version {
        4 => (last >> 28 == 0xe, last >> 8 == 0x00e0_0000),
        _ => (first >> 24 == 0xff, first >> 16 == 0xff02),
    };
    of_link || (multicast && env.leaf(version, group).is_ok_and(|leaf| leaf.own()))
}
