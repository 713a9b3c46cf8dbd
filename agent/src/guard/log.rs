//! The guard's drops as the kernel logs them (nfnetlink_log): one message a packet, at once.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Context as _;
use bulkhead_api::event::Direction;
use etherparse::{LaxNetSlice, LaxSlicedPacket};

use super::kind::Kind;
use super::netlink::{Netfilter, Request, UNSPECIFIED, attribute, name, number};
use super::rules;

/// `NFNL_SUBSYS_ULOG`.
const ULOG: u8 = 4;
/// `NFULNL_MSG_PACKET`.
const PACKET: u16 = (ULOG as u16) << 8;
/// `NFULNL_MSG_CONFIG`.
const CONFIG: u8 = 1;

/// Groups below are usual with other programs.
const FIRST_GROUP: u16 = 1024;

/// How many groups are tried.
const TRIES: u16 = 64;

/// Room for messages that nobody has read yet, bytes: some seconds of all that the rules log.
const ROOM: i32 = 1 << 20;

/// Protocols whose headers begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// One packet that the guard dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Why, and where.
    pub kind: Kind,
    /// Index of the interface that it came by, or was about to leave by.
    pub interface: u32,
    /// Where from and to, as far as it could be parsed.
    pub headers: Option<Headers>,
    /// Bytes from its IP header on.
    pub bytes: u64,
}

/// What a packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Source and destination port; zeros for protocols without.
    pub ports: (u16, u16),
}

/// Receives what an instance's guard drops.
#[derive(Debug)]
pub struct Log {
    netfilter: Netfilter,
    prefix: String,
    /// The group that the guard is to log to.
    pub group: u16,
}

impl Log {
    /// Takes a group that nobody else in this network namespace has. It is the same one each time, if it
    /// is free.
    ///
    /// # Errors
    /// If the kernel does not log to netlink, or all groups that were tried are taken.
    pub fn open(instance: &str) -> anyhow::Result<Self> {
        let netfilter = Netfilter::open().context("opening a netlink socket")?;
        netfilter.set_room(ROOM).context("making room for messages")?;
        let start = instance.bytes().fold(0_u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        for step in 0..TRIES {
            let group = FIRST_GROUP + start.wrapping_add(step) % (u16::MAX - FIRST_GROUP);
            match bind(&netfilter, group) {
                Ok(()) => return Ok(Self { netfilter, prefix: rules::log_prefix(instance), group }),
                // Another program has it.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EBUSY)) => {}
                Err(error) => return Err(error).context("binding a netlink log group"),
            }
        }
        anyhow::bail!("binding a netlink log group: {TRIES} groups are taken by other programs")
    }

    /// Gives every drop that has been logged since the last time to `each`. Never waits.
    ///
    /// # Errors
    /// If the kernel refuses. That some were lost for want of room is none: the counters know.
    pub fn drain(&self, mut each: impl FnMut(Dropped)) -> io::Result<()> {
        loop {
            let drained = self.netfilter.drain(|message, attributes| {
                if message == PACKET
                    && let Some(dropped) = read(&self.prefix, attributes)
                {
                    each(dropped);
                }
            });
            match drained {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                drained => return drained,
            }
        }
    }
}

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netfilter.as_fd()
    }
}

fn bind(netfilter: &Netfilter, group: u16) -> io::Result<()> {
    let configure = |number: u16, value: &[u8]| {
        let request = Request {
            message: (ULOG, CONFIG),
            family: UNSPECIFIED,
            resource: group,
            attributes: &[(number, value)],
        };
        netfilter.ask(&request, |_| ())
    };
    // NFULA_CFG_CMD: NFULNL_CFG_CMD_BIND
    configure(1, &[1])?;
    // NFULA_CFG_QTHRESH: each message is sent at once.
    configure(5, &1_u32.to_be_bytes())?;
    // NFULA_CFG_MODE: NFULNL_COPY_PACKET, as much as the rule says.
    configure(2, &[0, 0, 0xff, 0xff, 2, 0])
}

/// A message of this instance's guard: the group may have been another's before.
fn read(prefix: &str, message: &[u8]) -> Option<Dropped> {
    // NFULA_PREFIX
    let kind = Kind::of_object(name(attribute(message, 10)?).strip_prefix(prefix)?)?;
    // NFULA_IFINDEX_INDEV, _OUTDEV
    let device = if kind.direction() == Direction::Ingress { 4 } else { 5 };
    let interface = attribute(message, device).and_then(number).unwrap_or_default();
    // NFULA_PAYLOAD
    let packet = attribute(message, 9).unwrap_or_default();
    let (headers, bytes) =
        parse(packet).map_or((None, packet.len() as u64), |(headers, bytes)| (Some(headers), bytes));
    Some(Dropped { kind, interface, headers, bytes })
}

/// The headers of a packet that may be cut short, and how long it was.
fn parse(packet: &[u8]) -> Option<(Headers, u64)> {
    let sliced = LaxSlicedPacket::from_ip(packet).ok()?;
    let (source, destination, payload, bytes): (IpAddr, IpAddr, _, u64) = match sliced.net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let bytes = header.total_len().into();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload().clone(), bytes)
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let bytes = u64::from(header.payload_length()) + 40;
            (header.source_addr().into(), header.destination_addr().into(), ip.payload().clone(), bytes)
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let protocol = payload.ip_number.0;
    let ports = match payload.payload {
        [a, b, c, d, ..] if WITH_PORTS.contains(&protocol) && !payload.fragmented => {
            (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        _ => (0, 0),
    };
    Some((Headers { source, destination, protocol, ports }, bytes))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::{Headers, parse};

    #[test]
    fn headers_are_read_from_packets_that_are_cut_short() {
        let built = [
            PacketBuilder::ipv4([100, 64, 0, 1], [192, 0, 2, 1], 64).udp(1000, 53),
            PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64).udp(1000, 53),
        ];
        for builder in built {
            let mut packet = Vec::new();
            builder.write(&mut packet, &[0; 1200]).unwrap();
            let (Headers { source, protocol, ports, .. }, bytes) = parse(&packet[..128]).unwrap();
            assert_eq!((protocol, ports, bytes), (17, (1000, 53), packet.len() as u64));
            assert_eq!(source.is_ipv4(), packet[0] >> 4 == 4);
            for length in 0..60 {
                // Nothing is read past the end.
                let _ = parse(&packet[..length]);
            }
        }
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0x99; 40]), None);
    }
}
