//! Ethernet with up to two VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).

use crate::{Packet, Reason};

pub(super) const HEADER: usize = 14;
const TAG: usize = 4;
pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const ETHERTYPE_IPV6: u16 = 0x86dd;

pub(super) enum Payload {
    Arp,
    /// Neither: its EtherType.
    Link(u16),
    /// IP of the version that the EtherType says, at `offset`.
    Ip {
        offset: usize,
        version: u8,
    },
}

const fn is_tag(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ
}

#[inline(always)]
pub(super) fn parse(packet: &Packet) -> Result<Payload, Reason> {
    let mut ethertype = packet.header::<HEADER>(0).ok_or(Reason::LinkTruncated)?.be16(HEADER - 2);
    let mut offset = HEADER;
    if is_tag(ethertype) {
        ethertype = packet.header::<TAG>(offset).ok_or(Reason::LinkTruncated)?.be16(2);
        offset += TAG;
        if is_tag(ethertype) {
            ethertype = packet.header::<TAG>(offset).ok_or(Reason::LinkTruncated)?.be16(2);
            offset += TAG;
            if is_tag(ethertype) {
                return Err(Reason::VlanDepth);
            }
        }
    }
    match ethertype {
        ETHERTYPE_IPV4 => Ok(Payload::Ip { offset, version: 4 }),
        ETHERTYPE_IPV6 => Ok(Payload::Ip { offset, version: 6 }),
        ETHERTYPE_ARP => Ok(Payload::Arp),
        other => Ok(Payload::Link(other)),
    }
}
