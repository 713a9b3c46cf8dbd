//! The interfaces that packets of others come in by, and the host's own addresses (rtnetlink(7)).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_host::netlink::attribute;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::list;

/// Numbers of linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h and linux/if.h.
const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
/// Bytes of `ifinfomsg` and of `ifaddrmsg`.
const LINK: usize = 16;
const ADDRESS: usize = 8;

/// An interface that is up and hands packets to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// The VRF that it is in, by index: a socket bound to that takes its packets.
    pub vrf: Option<u32>,
}

/// The interfaces of the calling thread's network namespace by which packets come from outside, by name: those that
/// are up, without loopback, and without ports of bridges and bonds, whose packets come by these. Those of a VRF come
/// by the interfaces below it.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn interfaces() -> io::Result<Vec<Interface>> {
    let messages = list(NETLINK_ROUTE, RTM_GETLINK, &[0; LINK])?;
    let mut found: Vec<Interface> = messages.iter().filter_map(|message| interface(message)).collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn interface(message: &[u8]) -> Option<Interface> {
    let attributes = message.get(LINK..)?;
    let (index, flags) = (word(message, 4)?, word(message, 8)?);
    let info = attribute(attributes, IFLA_LINKINFO).unwrap_or_default();
    let is = |number, kind: &str| attribute(info, number).is_some_and(|found| text(found) == kind);
    let of = attribute(attributes, IFLA_MASTER).and_then(|found| word(found, 0));
    let vrf = of.filter(|_| is(IFLA_INFO_SLAVE_KIND, "vrf"));
    let takes = flags & IFF_UP != 0 && flags & IFF_LOOPBACK == 0;
    let hands_over = of.is_none() || vrf.is_some();
    (takes && hands_over && !is(IFLA_INFO_KIND, "vrf")).then_some(Interface {
        name: text(attribute(attributes, IFLA_IFNAME)?),
        index,
        vrf,
    })
}

/// The host's addresses there, on whichever interface.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn addresses() -> io::Result<BTreeSet<IpAddr>> {
    let messages = list(NETLINK_ROUTE, RTM_GETADDR, &[0; ADDRESS])?;
    Ok(messages.iter().filter_map(|message| address(message)).collect())
}

fn address(message: &[u8]) -> Option<IpAddr> {
    let attributes = message.get(ADDRESS..)?;
    // Where the other end has an address of its own, that is what `IFA_ADDRESS` is.
    let bytes = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS))?;
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use bulkhead_host::netlink::put;

    use super::{Interface, addresses, interface};

    fn link(flags: u32, master: Option<u32>, kind: &str, slave: &str) -> Option<Interface> {
        let mut bytes = vec![0; 16];
        bytes[4] = 7;
        bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
        let mut info = Vec::new();
        put(&mut info, &[(1, kind.as_bytes()), (4, slave.as_bytes())]);
        put(&mut bytes, &[(3, b"eth0\0"), (18, &info)]);
        if let Some(of) = master {
            put(&mut bytes, &[(10, &of.to_ne_bytes())]);
        }
        interface(&bytes)
    }

    #[test]
    fn ports_and_what_is_down_bring_nothing() {
        let eth0 = Interface { name: "eth0".to_owned(), index: 7, vrf: None };
        assert_eq!(link(1, None, "veth", ""), Some(eth0.clone()));
        assert_eq!(link(0, None, "veth", ""), None, "down");
        assert_eq!(link(9, None, "", ""), None, "loopback");
        assert_eq!(link(1, Some(9), "veth", "bridge"), None);
        assert_eq!(link(1, Some(9), "veth", "vrf"), Some(Interface { vrf: Some(9), ..eth0 }));
        assert_eq!(link(1, None, "vrf", ""), None);
        assert_eq!(interface(&[1; 9]), None, "cut short");
    }

    #[test]
    fn the_hosts_addresses_are_listed() {
        assert!(addresses().unwrap().contains(&"127.0.0.1".parse().unwrap()));
    }
}
