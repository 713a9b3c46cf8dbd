use super::{MASK4, MASK6, RECORD_FOREIGN, checksum_with, judge_report, mask, record};
use crate::layout::{Address, Direction, Leaf, Settings, from_ip};
use crate::memory::{Memory, Tables};
use crate::{Case, Packet, Reason, decide};

/// The ones' complement sum that a whole message has in its checksum.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    !(((sum >> 16) + sum) as u16)
}

/// A record of a type for a group, with sources and auxiliary data.
fn group_record(kind: u8, group: &[u8], sources: u16, auxiliary: u8) -> Vec<u8> {
    let mut bytes = vec![kind, auxiliary];
    bytes.extend(sources.to_be_bytes());
    bytes.extend(group);
    bytes.resize(bytes.len() + usize::from(sources) * group.len() + usize::from(auxiliary) * 4, 0xab);
    bytes
}

/// An IGMPv3 report behind an IPv4 header with a router alert, checksum included.
fn igmp(records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = vec![0x22, 0, 0, 0, 0, 0];
    message.extend((records.len() as u16).to_be_bytes());
    records.iter().for_each(|record| message.extend(record));
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let mut packet = vec![0x46, 0xc0];
    packet.extend((24 + message.len() as u16).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 1, 2, 0, 0, 203, 0, 113, 8, 224, 0, 0, 22, 0x94, 4, 0, 0]);
    packet.extend(message);
    packet
}

/// Tables in which 233.54.12.1 is a feed's group.
fn tables() -> Tables {
    let mut tables = Tables { groups: true, ..Tables::deny_all() };
    let group = from_ip([233, 54, 12, 1].into());
    crate::change::set_address(&mut tables, &group, Leaf::new(1, 0, true, false)).unwrap();
    tables
}
