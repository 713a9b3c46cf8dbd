//! The addresses of a device, as the kernel tells of them by rtnetlink.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_ROUTE;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

use super::dump::dump;

/// How often the list is asked for that changes while it is told.
const ATTEMPTS: usize = 5;

/// The addresses of a device, in the calling thread's network namespace. One that is still looked for elsewhere on
/// the link (tentative) is among them, one that was found there is not.
///
/// # Errors
/// If the kernel refuses, or the list changes all the time.
pub(super) fn addresses(index: u32) -> io::Result<BTreeSet<IpAddr>> {
    for _ in 0..ATTEMPTS {
        if let Some(whole) = attempt(index)? {
            return Ok(whole);
        }
    }
    Err(io::Error::other("the list of addresses changes all the time"))
}

/// The same once; `None` if the list changed meanwhile.
fn attempt(index: u32) -> io::Result<Option<BTreeSet<IpAddr>>> {
    let mut found = BTreeSet::new();
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let is_whole = dump(NETLINK_ROUTE, question, |message| {
        if let RouteNetlinkMessage::NewAddress(address) = message {
            found.extend(of_device(&address, index));
        }
    })?;
    Ok(is_whole.then_some(found))
}

fn of_device(message: &AddressMessage, index: u32) -> Option<IpAddr> {
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    if message.header.index != index || flags.is_some_and(|flags| flags.contains(AddressFlags::Dadfailed)) {
        return None;
    }
    // Where the other end has an address of its own, that is what `Address` is.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{AddressAttribute, AddressFlags, AddressMessage, addresses, of_device};

    #[test]
    fn loopback_has_its_own() {
        // Index 1 is loopback in every network namespace.
        assert!(addresses(1).unwrap().contains(&"127.0.0.1".parse().unwrap()));
        assert!(addresses(u32::MAX).unwrap().is_empty());
    }

    #[test]
    fn an_address_that_another_host_has_is_none_of_ours() {
        let mut message = AddressMessage::default();
        message.header.index = 3;
        let [own, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        message.attributes = vec![AddressAttribute::Address(other), AddressAttribute::Local(own)];
        assert_eq!((of_device(&message, 3), of_device(&message, 4)), (Some(own), None));
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Tentative));
        assert_eq!(of_device(&message, 3), Some(own));
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Dadfailed));
        message.attributes.remove(2);
        assert_eq!(of_device(&message, 3), None);
    }
}
