//! Reports of many groups at once (IGMPv3, RFC 3376 section 4.2; MLDv2, RFC 3810 section 5.2). The kernel
//! puts every group that some process of the host is in into one report, so a report with a group of a
//! feed must leave, whatever else is in it: the other groups are masked. See docs/decisions/0029.

use bulkhead_abi::{Address, recall};

use crate::multicast::{may_join, reads_reports};
use crate::parse::{Headers, mapped};
use crate::{Calls, Case, Environment, Outcome, Packet, Reason};

/// Group records judged of one report; one with more is dropped. As many as IGMPv3 has in a packet of
/// 9,632 bytes, and jumbo frames are of 9,216.
pub const MAX_RECORDS: u32 = 1200;

/// A record is for a group that the host may want.
pub const RECORD_ALLOWED: u32 = 1;
/// A record is for another group.
pub const RECORD_FOREIGN: u32 = 2;
/// A record is cut short, or could not be masked.
pub const RECORD_BROKEN: u32 = 4;

/// What a foreign group is replaced by: all systems of the link (224.0.0.1, ff02::1). Every system is in it and
/// none ever reports it (RFC 3376 section 5, RFC 3810 section 6), and switches forward it to every port,
/// whoever asks (RFC 4541 sections 2.1.2 and 3).
pub const MASK4: [u8; 4] = [224, 0, 0, 1];
/// The same of IPv6.
pub const MASK6: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Where a record's group begins in it.
const GROUP: u32 = 4;

/// A report's records are to be judged: the first begins behind 8 bytes.
#[inline(always)]
pub(crate) fn begin(headers: &mut Headers) {
    headers.next_record = headers.transport + 8;
}

/// Whether [`crate::decide_parsed`] has left a report whose records are still to be judged.
#[inline(always)]
#[must_use]
pub fn is_unread(env: &impl Environment, case: &Case) -> bool {
    reads_reports(env) && recall(&case.headers.next_record) != 0
}

/// Judges a report by its records; `record` judges the next one, see [`record`].
#[inline(always)]
pub fn judge_report(packet: &Packet, case: &mut Case, mut record: impl FnMut(&mut Case) -> u32) {
    case.outcome = Outcome::of(Reason::MembershipGroup);
    let start = packet.header::<8>(case.headers.transport as usize);
    let records = start.map_or(u32::MAX, |start| u32::from(start.be16(6)));
    if records > MAX_RECORDS {
        return;
    }
    let mut found = 0;
    for index in 0..MAX_RECORDS {
        if index >= records {
            break;
        }
        let one = record(case);
        found |= one;
        if one & RECORD_BROKEN != 0 {
            case.outcome.reason = Reason::TransportTruncated;
            return;
        }
    }
    case.outcome.reason = reason_of(found);
}

/// What the records of a report make of it together.
#[inline(always)]
const fn reason_of(found: u32) -> Reason {
    if found & RECORD_FOREIGN == 0 {
        Reason::Membership
    } else if found & RECORD_ALLOWED == 0 {
        Reason::MembershipGroup
    } else {
        Reason::MembershipMasked
    }
}

/// Judges the record at `headers.next_record` and steps behind it: a `RECORD_` bit. A foreign group
/// becomes the packet's destination, which reports name.
#[inline(always)]
pub fn record(env: &impl Calls, packet: &Packet, headers: &mut Headers) -> u32 {
    let (at, version) = (recall(&headers.next_record), recall(&headers.version));
    let end = headers.transport + headers.transport_length;
    let address = if version == 4 { 4 } else { 16 };
    let Some(fixed) = packet.header::<8>(at as usize) else {
        return RECORD_BROKEN;
    };
    let group = if version == 4 {
        mapped(fixed.word(GROUP as usize))
    } else {
        match packet.header::<16>((at + GROUP) as usize) {
            Some(group) => group.words(0),
            None => return RECORD_BROKEN,
        }
    };
    let next = at + GROUP + address + u32::from(fixed.be16(2)) * address + u32::from(fixed.byte(1)) * 4;
    if next > end {
        return RECORD_BROKEN;
    }
    headers.next_record = next;
    if may_join(env, version, &group) {
        return RECORD_ALLOWED;
    }
    headers.destination = group;
    RECORD_FOREIGN
}

/// What is to be written into a report so that it does not name the foreign group of the record at `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Where the group is: there goes [`MASK4`] or [`MASK6`].
    pub group: u32,
    /// Where the report's checksum is.
    pub checksum_at: u32,
    /// The checksum, as it lies in memory.
    pub checksum: [u8; 2],
}

/// The mask of the record at `at`, whose group [`record`] has just left as the destination.
#[inline(always)]
#[must_use]
pub fn mask(packet: &Packet, headers: &Headers, at: u32) -> Option<Mask> {
    let checksum_at = headers.transport + 2;
    let old = packet.header::<2>(checksum_at as usize)?.be16(0);
    let mask = match headers.version {
        4 => mapped(u32::from_ne_bytes(MASK4)),
        _ => [0xff02_0000_u32.to_be(), 0, 0, 1_u32.to_be()],
    };
    let checksum = checksum_with(old, &headers.destination, &mask).to_be_bytes();
    Some(Mask { group: at + GROUP, checksum_at, checksum })
}

/// An Internet checksum once `old` words are `new` ones (RFC 1624, equation 3).
#[inline(always)]
fn checksum_with(checksum: u16, old: &Address, new: &Address) -> u16 {
    let mut sum = u32::from(!checksum);
    let halves = |word: u32| (word >> 16) + (word & 0xffff);
    for index in 0..4 {
        sum += halves(!u32::from_be(old[index])) + halves(u32::from_be(new[index]));
    }
    sum = (sum >> 16) + (sum & 0xffff);
    !(((sum >> 16) + sum) as u16)
}

#[cfg(test)]
mod tests;
