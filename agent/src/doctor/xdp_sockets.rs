//! AF_XDP sockets, as the kernel lists them (sock_diag(7), linux/xdp_diag.h).

use std::io;

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

use crate::guard::netlink::attribute;

/// `SOCK_DIAG_BY_FAMILY`, `AF_XDP` and `XDP_SHOW_INFO`; the attribute `XDP_DIAG_INFO`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_XDP: u8 = 44;
const XDP_SHOW_INFO: u32 = 1;
const XDP_DIAG_INFO: u16 = 1;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Bytes of a message's header and of an `xdp_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 16;

/// One socket that is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct XdpSocket {
    /// Its interface.
    pub(super) index: u32,
    /// Its queue there.
    pub(super) queue: u32,
    /// Its inode.
    pub(super) inode: u64,
}

/// The sockets of this network namespace.
///
/// # Errors
/// If the kernel cannot list them (CONFIG_XDP_SOCKETS_DIAG).
pub(super) fn list() -> io::Result<Vec<XdpSocket>> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = Vec::new();
    request.extend(((HEADER + 20) as u32).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend([0; 8]);
    request.extend([AF_XDP, 0, 0, 0]);
    request.extend(0_u32.to_ne_bytes());
    request.extend(XDP_SHOW_INFO.to_ne_bytes());
    request.extend([0; 8]);
    socket.send(&request, 0)?;
    let mut sockets = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full()?;
        if read(&answer, &mut sockets)? {
            return Ok(sockets);
        }
    }
}

/// Reads one answer; whether it was the last.
fn read(mut answer: &[u8], sockets: &mut Vec<XdpSocket>) -> io::Result<bool> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    while !answer.is_empty() {
        let length = word(answer, 0).ok_or_else(broken)? as usize;
        let message = answer.get(..length).filter(|message| message.len() >= HEADER).ok_or_else(broken)?;
        match u16::from_ne_bytes([message[4], message[5]]) {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = word(message, HEADER).ok_or_else(broken)? as i32;
                return if code == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-code)) };
            }
            _ => sockets.extend(bound(&message[HEADER..])),
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// One that is bound to an interface.
fn bound(message: &[u8]) -> Option<XdpSocket> {
    let inode = word(message, 4)?.into();
    let info = attribute(message.get(MESSAGE..)?, XDP_DIAG_INFO)?;
    Some(XdpSocket { index: word(info, 0)?, queue: word(info, 4)?, inode })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::{XdpSocket, read};

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn answers_are_read_to_their_end() {
        let mut body = vec![44, 3, 0, 0];
        body.extend(77_u32.to_ne_bytes());
        body.extend([0; 8]);
        body.extend([12, 0, 1, 0]);
        body.extend(5_u32.to_ne_bytes());
        body.extend(2_u32.to_ne_bytes());
        let mut sockets = Vec::new();
        assert!(!read(&message(20, &body), &mut sockets).unwrap());
        assert_eq!(sockets, [XdpSocket { index: 5, queue: 2, inode: 77 }]);
        assert!(read(&message(3, &[0; 4]), &mut sockets).unwrap());
        assert!(read(&message(2, &(-2_i32).to_ne_bytes()), &mut sockets).is_err());
        for broken in [&[1, 0][..], &message(20, &body)[..30], &[0; 16]] {
            assert!(read(broken, &mut sockets).is_err(), "{broken:?}");
        }
    }
}
