//! Network devices as the kernel tells of them by rtnetlink, in the calling thread's network namespace.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};

use super::Hook;
use super::addresses::addresses;

/// The longest name that is not an alternative one, with its end (`IFNAMSIZ`).
const SHORT: usize = libc::IFNAMSIZ;

/// The attribute of a longer one (linux/if_link.h).
const IFLA_ALT_IFNAME: u16 = 53;

/// The group of devices that an agent has attached to (`ip link set group`), unless they are in another one
/// than the default: the letters `bulk`. What is removed and made again with the same index is not in it.
pub const DEVICE_GROUP: u32 = u32::from_be_bytes(*b"bulk");

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name; what it was looked up by may be an alternative one.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// `ARPHRD_` number of its link layer.
    pub link_type: u16,
    /// Its group (`ip link set group`); 0 unless somebody has set it.
    pub group: u32,
    /// The longest packet that it takes, in bytes, without the link layer's header.
    pub mtu: u32,
    /// The XDP hook in use and the program's number.
    pub xdp: Option<(Hook, u32)>,
    /// What it is a port of, if anything.
    pub port: Option<Port>,
}

/// What a device is a port of: what it carries to and from the host goes by that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its index.
    pub of: u32,
    /// What it is: `bridge`, `bond`, `vrf` and so on; empty if the kernel does not say.
    pub kind: String,
}

/// A way to ask for devices.
pub struct Devices(Socket);

impl Devices {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// The device that has a name, be it an alternative one; `None` if none has.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn by_name(&self, name: &str) -> io::Result<Option<Device>> {
        let mut question = LinkMessage::default();
        question.attributes = vec![
            if name.len() < SHORT {
                LinkAttribute::IfName(name.to_owned())
            } else {
                LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, [name.as_bytes(), &[0]].concat()))
            },
            LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
        ];
        self.ask(RouteNetlinkMessage::GetLink(question))
    }

    /// The device that has an index; `None` if none has.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn by_index(&self, index: u32) -> io::Result<Option<Device>> {
        let mut question = LinkMessage::default();
        question.header.index = index;
        question.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
        self.ask(RouteNetlinkMessage::GetLink(question))
    }

    /// Puts the device with this index into a group.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_group(&self, index: u32, group: u32) -> io::Result<()> {
        let mut change = LinkMessage::default();
        change.header.index = index;
        change.attributes = vec![LinkAttribute::Group(group)];
        self.ask(RouteNetlinkMessage::SetLink(change)).map(drop)
    }

    /// The addresses of the device that has an index; none if there is no such device.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn addresses(&self, index: u32) -> io::Result<BTreeSet<IpAddr>> {
        addresses(index)
    }

    /// Sends a message and reads its answer: a device, or none where it is done or not there.
    fn ask(&self, message: RouteNetlinkMessage) -> io::Result<Option<Device>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        if matches!(message, RouteNetlinkMessage::SetLink(_)) {
            header.flags |= NLM_F_ACK;
        }
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let (answer, _) = self.0.recv_from_full()?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(Some(Device::read(link))),
            NetlinkPayload::Error(error) => match error.raw_code().abs() {
                0 | libc::ENODEV => Ok(None),
                code => Err(io::Error::from_raw_os_error(code)),
            },
            _ => Err(io::Error::other("an answer that is not about a device")),
        }
    }
}

impl Device {
    fn read(link: LinkMessage) -> Self {
        let mut device = Self {
            name: String::new(),
            index: link.header.index,
            link_type: u16::from(link.header.link_layer_type),
            group: 0,
            mtu: 0,
            xdp: None,
            port: None,
        };
        let mut kind = String::new();
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name = name,
                LinkAttribute::Group(group) => device.group = group,
                LinkAttribute::Mtu(mtu) => device.mtu = mtu,
                LinkAttribute::Xdp(xdp) => device.xdp = xdp_of(&xdp),
                LinkAttribute::Controller(of) if of != 0 => {
                    device.port = Some(Port { of, kind: String::new() });
                }
                LinkAttribute::LinkInfo(infos) => {
                    kind = infos.iter().find_map(port_kind).unwrap_or_default();
                }
                _ => {}
            }
        }
        if let Some(port) = &mut device.port {
            port.kind = kind;
        }
        device
    }
}

/// The name of the device that has an index; none if none has.
#[must_use]
pub fn name_of(index: u32) -> Option<String> {
    let mut name = [0; libc::IFNAMSIZ];
    // SAFETY: room for the longest name and its end.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    let name = || name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8 as char).collect();
    (!found.is_null()).then(name)
}

fn port_kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::PortKind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

/// One program in the driver or behind it; several at once are nothing that an agent makes.
fn xdp_of(attributes: &[LinkXdp]) -> Option<(Hook, u32)> {
    let hook = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(XdpAttached::Driver) => Some(Hook::XdpNative),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(Hook::XdpGeneric),
        _ => None,
    })?;
    let program = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(program) => Some(*program),
        _ => None,
    })?;
    Some((hook, program))
}
