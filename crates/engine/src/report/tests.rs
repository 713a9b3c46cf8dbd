use std::cell::RefCell;
use std::net::IpAddr;

use bulkhead_abi::{Direction, Leaf, Settings, to_ip};

use super::{MASK4, MASK6, MAX_RECORDS, RECORD_FOREIGN, is_unread, judge_report, mask, record};
use crate::change::change;
use crate::memory::{Memory, Tables};
use crate::{Case, Packet, Reason, decide, decide_parsed, parse};

const FEED4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(233, 54, 12, 1));
const OTHER4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(239, 255, 255, 250));
const LINK4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(224, 0, 0, 251));
const FEED6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, 0, 7));
const OTHER6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xff1e, 0, 0, 0, 0x8000, 0, 0xffff, 9));
const LINK6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1));
/// Types of records (RFC 3376 section 4.2.12).
const IS_EXCLUDE: u8 = 2;
const TO_INCLUDE: u8 = 3;
const ALLOW: u8 = 5;
const BLOCK: u8 = 6;

/// Tables in which a group of each family is a feed's.
fn tables() -> Tables {
    let mut tables = Tables { groups: true, ..Tables::deny_all() };
    for feed in [FEED4, FEED6] {
        change(&mut tables, feed, |_| Leaf::new(1, 0, true)).unwrap();
    }
    tables
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A record of a type for a group, with sources and words of auxiliary data.
fn of(kind: u8, group: IpAddr, sources: u16, auxiliary: u8) -> Vec<u8> {
    let mut bytes = vec![kind, auxiliary];
    bytes.extend(sources.to_be_bytes());
    bytes.extend(octets(group));
    let rest = usize::from(sources) * octets(group).len() + usize::from(auxiliary) * 4;
    bytes.extend(std::iter::repeat_n(0xab, rest));
    bytes
}

/// An Internet checksum (RFC 1071) over some parts; 0 over what has a good one.
fn checksum(parts: &[&[u8]]) -> u16 {
    let pairs = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = pairs.map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1])).sum();
    while sum >> 16 != 0 {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// Where a report begins in a packet of [`packet`], and what else its checksum is about.
fn parts(bytes: &[u8]) -> (usize, Vec<u8>) {
    if bytes[0] >> 4 == 4 {
        return (24, Vec::new());
    }
    let length = (bytes.len() - 48) as u32;
    (48, [&bytes[8..40], &length.to_be_bytes(), &[0, 0, 0, 58]].concat())
}

/// A report as the kernel sends it, of the family of its records: behind a router alert, with its checksum.
fn packet(v4: bool, records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = vec![if v4 { 0x22 } else { 143 }, 0, 0, 0, 0, 0];
    message.extend((records.len() as u16).to_be_bytes());
    message.extend(records.concat());
    let mut bytes = if v4 {
        let total = (24 + message.len() as u16).to_be_bytes();
        let start = [0x46, 0xc0, total[0], total[1], 0, 0, 0x40, 0, 1, 2, 0, 0, 203, 0, 113, 8];
        [&start[..], &[224, 0, 0, 22, 0x94, 4, 0, 0]].concat()
    } else {
        let length = (8 + message.len() as u16).to_be_bytes();
        let start = [0x60, 0, 0, 0, length[0], length[1], 0, 1];
        let all_routers = octets("ff02::16".parse().unwrap());
        [&start[..], &octets("fe80::8".parse().unwrap()), &all_routers, &[58, 0, 5, 2, 0, 0, 1, 0]].concat()
    };
    bytes.extend(message);
    let (at, pseudo) = parts(&bytes);
    let sum = checksum(&[&pseudo, &bytes[at..]]).to_be_bytes();
    bytes[at + 2..at + 4].copy_from_slice(&sum);
    bytes
}

/// Sends a packet as the program does: every foreign group that is met is masked at once.
fn send(bytes: &mut Vec<u8>) -> (Reason, IpAddr) {
    let tables = tables();
    let env = Memory::new(&tables, Settings { features: tables.features(), interface: 1, ..Settings::UNSET });
    let copy = bytes.clone();
    let mut case = Case::UNKNOWN;
    parse::parse(&Packet::new(&copy), false, &mut case.headers);
    decide_parsed(&env, &Packet::new(&copy), Direction::Egress, &mut case);
    assert_eq!(
        (is_unread(&env, &case), case.outcome.reason),
        (true, Reason::MembershipGroup),
        "until it is read"
    );
    let sent = RefCell::new(std::mem::take(bytes));
    judge_report(&Packet::new(&copy), &mut case, |case| {
        let mut sent = sent.borrow_mut();
        let at = case.headers.next_record;
        let found = record(&env, &Packet::new(&sent), &mut case.headers);
        if found == RECORD_FOREIGN {
            let mask = mask(&Packet::new(&sent), &case.headers, at).unwrap();
            let group = if case.headers.version == 4 { &MASK4[..] } else { &MASK6 };
            sent[mask.group as usize..][..group.len()].copy_from_slice(group);
            sent[mask.checksum_at as usize..][..2].copy_from_slice(&mask.checksum);
        }
        found
    });
    *bytes = sent.into_inner();
    let outcome = case.outcome;
    // The host's own way comes to the same, and changes nothing.
    let mut whole = Case::UNKNOWN;
    decide(&env, &Packet::new(&copy), Direction::Egress, &mut whole);
    assert_eq!((whole.outcome, whole.headers), (outcome, case.headers));
    (outcome.reason, to_ip(&case.headers.destination))
}

#[test]
fn a_feeds_record_leaves_and_foreign_ones_are_masked() {
    for (v4, feed, other, link, all) in [
        (true, FEED4, OTHER4, LINK4, IpAddr::from(MASK4)),
        (false, FEED6, OTHER6, LINK6, IpAddr::from(MASK6)),
    ] {
        // Of every kind, with sources, with auxiliary data: before the feed's, and behind it.
        let records = |foreign: IpAddr| {
            let record = [
                of(IS_EXCLUDE, foreign, 0, 0),
                of(ALLOW, foreign, 2, 3),
                of(IS_EXCLUDE, feed, 0, 0),
                of(BLOCK, foreign, 1, 0),
                of(TO_INCLUDE, link, 0, 0),
                of(TO_INCLUDE, foreign, 0, 1),
            ];
            packet(v4, &record)
        };
        let mut sent = records(other);
        assert_eq!(send(&mut sent), (Reason::MembershipMasked, other));
        // As if the host had never been in any but the feed's, checksum included.
        assert_eq!(sent, records(all), "{other}");
        let (at, pseudo) = parts(&sent);
        assert_eq!(checksum(&[&pseudo, &sent[at..]]), 0, "{other}");
    }
}

#[test]
fn what_needs_no_mask_is_not_touched() {
    for (v4, feed, other, link) in [(true, FEED4, OTHER4, LINK4), (false, FEED6, OTHER6, LINK6)] {
        let plain = packet(v4, &[of(IS_EXCLUDE, feed, 3, 1), of(TO_INCLUDE, link, 0, 0)]);
        let mut sent = plain.clone();
        assert_eq!(send(&mut sent).0, Reason::Membership);
        assert_eq!(sent, plain);
        // Nothing to say.
        assert_eq!(send(&mut packet(v4, &[])).0, Reason::Membership);
        // Nothing that the host may say: its group is named.
        for kind in 0..=7 {
            let mut foreign = packet(v4, &[of(kind, other, 1, 1)]);
            assert_eq!(send(&mut foreign), (Reason::MembershipGroup, other), "{kind}");
        }
    }
}

#[test]
fn as_many_records_are_judged_as_fit_into_a_frame() {
    for (v4, feed, other, most) in [(true, FEED4, OTHER4, MAX_RECORDS as usize), (false, FEED6, OTHER6, 479)]
    {
        for (count, expected) in [(200, Reason::MembershipMasked), (most, Reason::MembershipMasked)] {
            let mut records = vec![of(IS_EXCLUDE, other, 0, 0); count - 1];
            records.push(of(IS_EXCLUDE, feed, 0, 0));
            assert_eq!(send(&mut packet(v4, &records)).0, expected, "{count}");
        }
    }
    let records = vec![of(IS_EXCLUDE, FEED4, 0, 0); MAX_RECORDS as usize + 1];
    assert_eq!(send(&mut packet(true, &records)).0, Reason::MembershipGroup, "one more");
}

#[test]
fn a_report_that_is_not_whole_is_dropped() {
    for (v4, feed, other) in [(true, FEED4, OTHER4), (false, FEED6, OTHER6)] {
        let records = [of(IS_EXCLUDE, feed, 0, 0), of(ALLOW, other, 2, 1)];
        let whole = packet(v4, &records);
        // More records than there are, and a record whose parts go beyond the end.
        for (offset, more) in [(7, 1), (8 + records[0].len() + 1, 1), (8 + records[0].len() + 3, 1)] {
            let mut lies = whole.clone();
            lies[parts(&whole).0 + offset] += more;
            assert_eq!(send(&mut lies).0, Reason::TransportTruncated, "{offset}");
        }
        let mut most = whole;
        let at = parts(&most).0 + 6;
        most[at..at + 2].copy_from_slice(&u16::MAX.to_be_bytes());
        assert_eq!(send(&mut most).0, Reason::MembershipGroup, "more records than are judged");
    }
}
