//! The kernel's WireGuard, by generic netlink (linux/wireguard.h).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_host::netlink::{NLM_F_ACK, NLM_F_DUMP, attribute, attributes, named};
use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_GENERIC;

use crate::netlink::{Question, ask};
use crate::{Key, Peer, PeersError};

/// How often a list is read again that changed while it was.
const TRIES: u32 = 5;

/// The peers of an interface.
///
/// # Errors
/// If the kernel refuses, or the list never stands still.
pub(crate) fn peers(interface: &str) -> Result<Vec<Peer>, PeersError> {
    let what = format!("WireGuard's peers of {interface} by netlink");
    let family = family().map_err(PeersError::system("generic netlink's family wireguard"))?;
    // WG_CMD_GET_DEVICE, WG_GENL_VERSION; WGDEVICE_A_IFNAME.
    let name = named(interface);
    let question = Question { kind: family, flags: NLM_F_DUMP, header: &[0, 1, 0, 0], attribute: (2, &name) };
    for _ in 0..TRIES {
        let mut list = List::default();
        if ask(NETLINK_GENERIC, &question, |part| list.add(part)).map_err(PeersError::system(what.clone()))? {
            return list.end().ok_or_else(|| PeersError::nonsense(what, "a peer without a key or a prefix"));
        }
    }
    Err(PeersError::nonsense(what, "it changes faster than it can be read"))
}

/// The number that the kernel has given the family.
fn family() -> io::Result<u16> {
    // GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, CTRL_ATTR_FAMILY_ID of linux/genetlink.h.
    let name = named("wireguard");
    let question = Question { kind: 16, flags: NLM_F_ACK, header: &[3, 1, 0, 0], attribute: (2, &name) };
    let mut family = None;
    ask(NETLINK_GENERIC, &question, |answer| {
        family = attribute(answer, 1).and_then(|number| number.try_into().ok()).map(u16::from_ne_bytes);
    })?;
    family.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// A device's peers, from the parts of a dump.
#[derive(Default)]
struct List {
    peers: Vec<Peer>,
    is_broken: bool,
}

impl List {
    /// One part. Of a device only the peers are looked at (`WGDEVICE_A_PEERS`), never its private key.
    fn add(&mut self, part: &[u8]) {
        for peer in
            attributes(part).filter(|(number, _)| *number == 8).flat_map(|(_, peers)| attributes(peers))
        {
            match read(peer.1) {
                // A list that one message cannot hold goes on in the next, with the same key.
                Some(more) => match self.peers.last_mut().filter(|last| last.key == more.key) {
                    Some(last) => last.allowed.extend(more.allowed),
                    None => self.peers.push(more),
                },
                None => self.is_broken = true,
            }
        }
    }

    fn end(self) -> Option<Vec<Peer>> {
        (!self.is_broken).then_some(self.peers)
    }
}

/// One peer, without its pre-shared key (`WGPEER_A_PRESHARED_KEY`, 2).
fn read(peer: &[u8]) -> Option<Peer> {
    let (mut key, mut handshake, mut allowed) = (None, None, Vec::new());
    for (number, payload) in attributes(peer) {
        match number {
            // WGPEER_A_PUBLIC_KEY, WGPEER_A_LAST_HANDSHAKE_TIME, WGPEER_A_ALLOWEDIPS.
            1 => key = Some(Key(payload.try_into().ok()?)),
            6 => handshake = seconds(payload),
            9 => {
                for (_, prefix) in attributes(payload) {
                    allowed.push(allowed_ip(prefix)?);
                }
            }
            _ => {}
        }
    }
    Some(Peer { key: key?, allowed, handshake })
}

/// The seconds of a `__kernel_timespec`; none if it is zero: no handshake yet.
fn seconds(time: &[u8]) -> Option<u64> {
    let seconds = i64::from_ne_bytes(time.get(..8)?.try_into().ok()?);
    u64::try_from(seconds).ok().filter(|seconds| *seconds != 0)
}

fn allowed_ip(prefix: &[u8]) -> Option<IpNet> {
    // WGALLOWEDIP_A_IPADDR, WGALLOWEDIP_A_CIDR_MASK.
    let address = attribute(prefix, 2)?;
    let address = match <[u8; 4]>::try_from(address) {
        Ok(octets) => IpAddr::V4(Ipv4Addr::from(octets)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
    };
    let &[length] = attribute(prefix, 3)? else { return None };
    Some(IpNet::new(address, length).ok()?.trunc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Key, List};

    fn attribute(number: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&number.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn allowed(address: &[u8], length: u8) -> Vec<u8> {
        // With the flag that marks a nested attribute.
        let family = if address.len() == 4 { 2u16 } else { 10 };
        let parts = [attribute(1, &family.to_ne_bytes()), attribute(2, address), attribute(3, &[length])];
        attribute(0x8000, &parts.concat())
    }

    fn peer(key: u8, parts: &[Vec<u8>]) -> Vec<u8> {
        attribute(0x8000, &[attribute(1, &[key; 32]), attribute(2, &[0xaa; 32]), parts.concat()].concat())
    }

    fn device(peers: &[Vec<u8>]) -> Vec<u8> {
        [attribute(1, &7u32.to_ne_bytes()), attribute(3, &[0xbb; 32]), attribute(0x8008, &peers.concat())]
            .concat()
    }

    #[test]
    fn the_parts_of_a_list_are_one_list_and_secrets_are_in_none() {
        let time = attribute(6, &[1_800_000_000i64.to_ne_bytes(), 5i64.to_ne_bytes()].concat());
        let first = attribute(0x8009, &[allowed(&[10, 0, 0, 1], 32), allowed(&[10, 1, 2, 3], 16)].concat());
        let second = attribute(0x8009, &allowed(&[0xfd; 16], 128));
        let mut list = List::default();
        list.add(&device(&[peer(1, &[time, first])]));
        list.add(&device(&[peer(1, &[second]), peer(2, &[attribute(6, &[0; 16])])]));
        let peers = list.end().unwrap();
        assert_eq!(peers.iter().map(|peer| peer.key).collect::<Vec<_>>(), [Key([1; 32]), Key([2; 32])]);
        assert_eq!((peers[0].handshake, peers[1].handshake), (Some(1_800_000_000), None));
        let allowed: Vec<_> = peers[0].allowed.iter().map(ToString::to_string).collect();
        assert_eq!(allowed[..2], ["10.0.0.1/32", "10.1.0.0/16"]);
        assert_eq!(allowed.len(), 3);
        let shown = format!("{peers:?}");
        assert!(!shown.contains("aaaa") && !shown.contains("bbbb"), "{shown}");
    }

    #[test]
    fn a_peer_that_cannot_be_read_makes_the_list_none() {
        for broken in
            [attribute(0x8009, &allowed(&[1, 2, 3], 32)), attribute(0x8009, &allowed(&[1, 2, 3, 4], 33))]
        {
            let mut list = List::default();
            list.add(&device(&[peer(1, &[]), peer(2, &[broken])]));
            assert_eq!(list.end(), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut list = List::default();
            list.add(&bytes);
            list.add(&device(&[attribute(0x8000, &bytes)]));
        }
    }
}
