//! Questions to the kernel by netlink, whose answers may hold secrets: they are read into memory that is wiped.

use std::io;

use netlink_packet_core::{ErrorBuffer, NetlinkBuffer, NlaBuffer, NlasIterator};
use netlink_sys::{Socket, SocketAddr};
use zeroize::Zeroizing;

const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Bytes of `nlmsghdr`.
const HEADER: usize = 16;
/// Room for what one receive returns: the kernel fills up to 32 KiB.
const ROOM: usize = 64 << 10;

/// A question.
pub(crate) struct Question<'a> {
    /// The message's type.
    pub kind: u16,
    /// Beside `NLM_F_REQUEST`.
    pub flags: u16,
    /// The family's own header, of a length that is a multiple of four.
    pub header: &'a [u8],
    /// One attribute: number and payload.
    pub attribute: (u16, &'a [u8]),
}

impl Question<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&(NLM_F_REQUEST | self.flags).to_ne_bytes());
        // Sequence and port: one question a socket.
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(self.header);
        let (number, payload) = self.attribute;
        bytes.extend_from_slice(&(payload.len() as u16 + 4).to_ne_bytes());
        bytes.extend_from_slice(&number.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }
}

/// Asks in the network namespace of the calling thread, and gives what follows the family's header of every answer
/// to `each`. `false` if what was listed changed meanwhile.
///
/// # Errors
/// What the kernel answers, such as `ENODEV`.
pub(crate) fn ask(protocol: isize, question: &Question, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&question.bytes(), 0)?;
    let mut is_whole = true;
    let mut buffer = Zeroizing::new(Vec::with_capacity(ROOM));
    loop {
        buffer.clear();
        match socket.recv(&mut *buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received?,
        };
        for (kind, flags, payload) in messages(&buffer) {
            is_whole &= flags & NLM_F_DUMP_INTR == 0;
            match kind {
                NLMSG_DONE => return Ok(is_whole),
                NLMSG_ERROR => {
                    let error = ErrorBuffer::new_checked(payload).map_err(io::Error::other)?;
                    return error
                        .code()
                        .map_or(Ok(is_whole), |code| Err(io::Error::from_raw_os_error(-code.get())));
                }
                _ => each(payload.get(question.header.len()..).unwrap_or(&[])),
            }
        }
    }
}

/// The messages of one receive: number, flags, payload.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, u16, &[u8])> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = (message.length() as usize).next_multiple_of(4).max(HEADER);
        let found = (message.message_type(), message.flags(), message.payload());
        rest = rest.get(length..).unwrap_or(&[]);
        Some(found)
    })
}

/// Attributes: number without flags, and payload. What is cut short ends them.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute: NlaBuffer<&[u8]>| {
        let (kind, length) = (attribute.kind(), attribute.length() as usize);
        (kind, attribute.into_inner().get(4..length).unwrap_or(&[]))
    })
}

/// The first attribute of a number.
pub(crate) fn attribute(bytes: &[u8], number: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == number).map(|(_, payload)| payload)
}

/// A name for a question: it ends with a NUL.
pub(crate) fn named(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// A network interface.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its own name; what it was looked up by may be an alternative one.
    pub name: String,
    /// Its `IFLA_INFO_KIND`, such as `wireguard` or `tun`; empty for a card.
    pub kind: String,
}

/// The interface of a name, be it an alternative one; none if there is none.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn link(interface: &str) -> io::Result<Option<Link>> {
    // linux/rtnetlink.h and linux/if_link.h.
    const RTM_GETLINK: u16 = 18;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_ALT_IFNAME: u16 = 53;
    const IFLA_INFO_KIND: u16 = 1;
    const IFNAMSIZ: usize = 16;
    const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();
    let name = named(interface);
    let by = if name.len() <= IFNAMSIZ { IFLA_IFNAME } else { IFLA_ALT_IFNAME };
    let question = Question { kind: RTM_GETLINK, flags: NLM_F_ACK, header: &[0; 16], attribute: (by, &name) };
    let mut link = Link::default();
    let asked = ask(netlink_sys::protocols::NETLINK_ROUTE, &question, |answer| {
        let kind = attribute(answer, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
        link = Link { name: text(attribute(answer, IFLA_IFNAME)), kind: text(kind) };
    });
    match asked {
        Ok(_) => Ok(Some(link)),
        Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A name of an answer.
fn text(name: Option<&[u8]>) -> String {
    String::from_utf8_lossy(name.unwrap_or_default()).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Link, attribute, link, messages};

    #[test]
    fn the_kernel_says_what_a_link_is() {
        assert_eq!(link("lo").unwrap(), Some(Link { name: "lo".to_owned(), kind: String::new() }));
        assert_eq!(link("no-such-link").unwrap(), None);
        assert_eq!(link("a name that is longer than any but an alternative one").unwrap(), None);
    }

    #[test]
    fn what_is_cut_short_ends_what_is_read() {
        assert_eq!(messages(&[9; 15]).count(), 0);
        // A message that says it is longer than what came.
        assert_eq!(messages(&[64, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(attribute(&[9, 0, 1, 0, 1], 1), None);
    }
}
