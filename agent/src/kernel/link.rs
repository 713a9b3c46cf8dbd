//! An interface by any of its names: the one it has, or an alternative one (`ip link property add … altname`).

use std::io;

use netlink_packet_core::{DefaultNla, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

/// linux/if_link.h.
const IFLA_ALT_IFNAME: u16 = 53;

/// What the kernel says of an interface in this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The name that it has now, by which nftables knows it.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its link layer, an `ARPHRD_` number of linux/if_arp.h.
    pub link_type: u16,
}

/// Asks for an interface by a name of up to 127 bytes; none if nothing has that name.
///
/// # Errors
/// If the kernel refuses.
pub fn link(name: &str) -> io::Result<Option<Link>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut question = LinkMessage::default();
    // The kernel looks among names of both kinds.
    question
        .attributes
        .push(LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, [name.as_bytes(), &[0]].concat())));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, RouteNetlinkMessage::GetLink(question).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(of(&link)),
        NetlinkPayload::Error(error) if error.raw_code() == -libc::ENODEV => Ok(None),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::Error::other("an answer of another kind")),
    }
}

/// The name that an interface of this network namespace has now; none if there is none of that index.
#[must_use]
pub fn name_of(index: u32) -> Option<String> {
    let mut name = [0; libc::IFNAMSIZ];
    // SAFETY: room for the longest name and its end.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    let name = || name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8 as char).collect();
    (!found.is_null()).then(name)
}

fn of(link: &LinkMessage) -> Option<Link> {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    Some(Link { name, index: link.header.index, link_type: link.header.link_layer_type.into() })
}
