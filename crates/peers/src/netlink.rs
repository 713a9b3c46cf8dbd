//! Questions to the kernel by netlink, whose answers may hold secrets: they are read into memory that is wiped.

use std::io;

use bulkhead_host::netlink::{
    NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, ROOM, attribute, messages, named, put,
};
use netlink_packet_core::ErrorBuffer;
use netlink_sys::{Socket, SocketAddr};
use zeroize::Zeroizing;

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
        put(&mut bytes, &[self.attribute]);
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
        for (kind, flags, _, payload) in messages(&buffer) {
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
    use super::{Link, link};

    #[test]
    fn the_kernel_says_what_a_link_is() {
        assert_eq!(link("lo").unwrap(), Some(Link { name: "lo".to_owned(), kind: String::new() }));
        assert_eq!(link("no-such-link").unwrap(), None);
        assert_eq!(link("a name that is longer than any but an alternative one").unwrap(), None);
    }
}
