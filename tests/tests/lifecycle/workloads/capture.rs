//! Every packet that a host gets by an interface, judged by who may have sent it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulkhead_testkit::lab::Namespace;

/// `PACKET_STATISTICS` of linux/if_packet.h: packets, and those there was no room for.
const PACKET_STATISTICS: i32 = 6;

/// What a packet says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub source: IpAddr,
    pub what: What,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Tcp {
        from: u16,
        to: u16,
        is_reset: bool,
    },
    Udp {
        from: u16,
        to: u16,
    },
    /// Of ICMP or ICMPv6: its type, and the identifier that an echo has there.
    Icmp {
        kind: u8,
        identifier: u16,
    },
    Other(u8),
}

/// What was captured so far.
#[derive(Default)]
pub struct Captured {
    pub packets: u64,
    /// Those that nobody may have sent under that name.
    pub wrong: Vec<Packet>,
}

/// A capture that goes on for as long as the process does.
pub struct Capture {
    captured: Arc<Mutex<Captured>>,
    socket: Arc<OwnedFd>,
}

impl Capture {
    /// Of all that a namespace gets by an interface; `is_right` judges.
    pub fn start(
        namespace: &Namespace,
        interface: &str,
        is_right: impl Fn(&Packet) -> bool + Send + 'static,
    ) -> Self {
        let socket = Arc::new(namespace.run(|| open(interface)).unwrap().unwrap());
        let captured = Arc::new(Mutex::new(Captured::default()));
        let (reading, into) = (socket.clone(), captured.clone());
        std::thread::spawn(move || {
            while let Ok(bytes) = next(&reading) {
                let Some(packet) = bytes.and_then(|bytes| read(&bytes)) else { continue };
                let mut captured = into.lock().unwrap();
                captured.packets += 1;
                if !is_right(&packet) {
                    captured.wrong.push(packet);
                }
            }
        });
        Self { captured, socket }
    }

    /// What was captured since the last time, once nothing has come for a moment.
    pub fn take(&self) -> Captured {
        let count = || self.captured.lock().unwrap().packets;
        let mut before = u64::MAX;
        while before != count() {
            before = count();
            std::thread::sleep(Duration::from_millis(50));
        }
        std::mem::take(&mut self.captured.lock().unwrap())
    }

    /// How many packets the capture had no room for, since the last time.
    pub fn missed(&self) -> u32 {
        let mut counts = [0u32; 2];
        let mut length = size_of_val(&counts) as libc::socklen_t;
        // SAFETY: room for the two numbers.
        let answer = unsafe {
            let room = counts.as_mut_ptr().cast();
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                PACKET_STATISTICS,
                room,
                &raw mut length,
            )
        };
        assert_eq!(answer, 0);
        counts[1]
    }
}

fn open(interface: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(interface).unwrap();
    let all = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: numbers; plain old data; a value and an address of the lengths that are given.
    unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, i32::from(all));
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let room = 32i32 << 20;
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const room).cast(),
            4,
        );
        let mut at: libc::sockaddr_ll = std::mem::zeroed();
        at.sll_family = libc::AF_PACKET as u16;
        at.sll_protocol = all;
        at.sll_ifindex = libc::if_nametoindex(name.as_ptr()).cast_signed();
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        match libc::bind(socket.as_raw_fd(), (&raw const at).cast(), length) {
            0 => Ok(socket),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The next packet; `None` for one that leaves.
fn next(socket: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0u8; 200];
    // SAFETY: plain old data, and room of the lengths that are given.
    let (length, from) = unsafe {
        let mut from: libc::sockaddr_ll = std::mem::zeroed();
        let mut size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let to = bytes.as_mut_ptr().cast();
        let (at, size) = ((&raw mut from).cast(), &raw mut size);
        (libc::recvfrom(socket.as_raw_fd(), to, bytes.len(), 0, at, size), from)
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    bytes.truncate(length as usize);
    Ok((from.sll_pkttype != libc::PACKET_OUTGOING).then_some(bytes))
}

/// What a packet is whose IP header comes first.
fn read(bytes: &[u8]) -> Option<Packet> {
    let (source, protocol, at): (IpAddr, u8, usize) = match bytes.first()? >> 4 {
        4 => {
            let source: [u8; 4] = bytes.get(12..16)?.try_into().ok()?;
            (Ipv4Addr::from(source).into(), *bytes.get(9)?, usize::from(bytes[0] & 15) * 4)
        }
        _ => {
            let source: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            (Ipv6Addr::from(source).into(), *bytes.get(6)?, 40)
        }
    };
    let word = |offset: usize| {
        let pair = bytes.get(at + offset..at + offset + 2);
        pair.map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]))
    };
    let what = match protocol {
        6 => {
            let is_reset = bytes.get(at + 13).is_some_and(|flags| flags & 4 != 0);
            What::Tcp { from: word(0), to: word(2), is_reset }
        }
        17 => What::Udp { from: word(0), to: word(2) },
        1 | 58 => What::Icmp { kind: *bytes.get(at)?, identifier: word(4) },
        other => What::Other(other),
    };
    Some(Packet { source, what })
}
