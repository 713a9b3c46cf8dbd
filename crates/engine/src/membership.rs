//! Multicast membership: a host says which groups it wants (IGMP, RFC 3376 and 2236; MLD, RFC
//! 3810 and 2710). It may want the groups of its feeds and no others.

use bulkhead_abi::{Direction, LINK_IGMP};

use crate::multicast::{is_about_membership, may_join, reads_reports};
use crate::parse::{Headers, mapped};
use crate::report::begin;
use crate::{Calls, Case, Environment, Outcome, Packet, Reason};

/// Whether a packet is about membership where that is looked at.
#[inline(always)]
pub(crate) fn is_membership(env: &impl Environment, headers: &Headers) -> bool {
    (reads_reports(env) || env.link() & LINK_IGMP != 0) && is_about_membership(headers)
}

/// Decides on a packet about membership: questions come in, answers go out. Of a report of many groups
/// ([`crate::report`]) the records are still to be judged; until then it is dropped.
#[inline(never)]
pub(crate) fn membership(env: &impl Calls, packet: &Packet, case: &mut Case, direction: Direction) {
    case.outcome = Outcome::of(Reason::MembershipGroup);
    case.outcome.reason = judge(env, packet, &mut case.headers, direction);
}

#[inline(always)]
fn judge(env: &impl Calls, packet: &Packet, headers: &mut Headers, direction: Direction) -> Reason {
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
