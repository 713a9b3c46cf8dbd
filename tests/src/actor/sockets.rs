//! Sockets as programs make them.

use std::io::{self, Read as _, Write as _};
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::Words;

/// What is answered is there within this time, or is not coming.
const PATIENCE: Duration = Duration::from_millis(600);

const SOL_XDP: i32 = 283;
const XDP_RX_RING: i32 = 2;
const PACKET_QDISC_BYPASS: i32 = 20;
const PACKET_VERSION: i32 = 10;
const MPTCP: i32 = 262;

/// An address as a socket of both families has it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddrV6::new(v4.to_ipv6_mapped(), address.port(), 0, 0).into(),
        IpAddr::V6(_) => address,
    }
}

fn set(socket: &Socket, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: a descriptor that is open, and a value of this length.
    let answer = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as u32)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A socket with the options of a command.
fn made(words: &Words<'_>, kind: Type, to: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let to = if words.has("mapped") { mapped(to) } else { to };
    let protocol = words.has("mptcp").then(|| Protocol::from(MPTCP));
    let socket = Socket::new(Domain::for_address(to), kind, protocol)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    if words.has("transparent") {
        set(&socket, libc::SOL_IP, libc::IP_TRANSPARENT, &1i32.to_ne_bytes())?;
    }
    if words.has("freebind") {
        set(&socket, libc::SOL_IP, libc::IP_FREEBIND, &1i32.to_ne_bytes())?;
    }
    if let Some(device) = words.value("device") {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if let Some(from) = words.value("from") {
        socket.set_reuse_address(true)?;
        let from: SocketAddr = from.parse().map_err(io::Error::other)?;
        socket.bind(&from.into())?;
    }
    Ok((socket, to))
}

fn received(mut socket: &Socket) -> io::Result<String> {
    let mut bytes = [0; 100];
    let length = socket.read(&mut bytes)?;
    Ok(format!("seen {}", String::from_utf8_lossy(&bytes[..length])))
}

/// Connects by TCP; as whom the other end sees it.
pub fn tcp(words: &Words<'_>) -> io::Result<String> {
    let (socket, to) = made(words, Type::STREAM, words.address(1)?)?;
    if words.has("fastopen") {
        socket.send_to_with_flags(b"x", &to.into(), libc::MSG_FASTOPEN)?;
    } else {
        socket.connect_timeout(&to.into(), PATIENCE)?;
    }
    received(&socket)
}

/// Sends a datagram; as whom the other end sees it.
pub fn udp(words: &Words<'_>) -> io::Result<String> {
    let (socket, to) = made(words, Type::DGRAM, words.address(1)?)?;
    if words.has("connect") {
        socket.connect(&to.into())?;
    }
    match words.value("source") {
        Some(source) => {
            send_from(&socket, to, source.parse().map_err(io::Error::other)?, words.has("connect"))?;
        }
        None if words.has("connect") => socket.send(b"x").map(drop)?,
        None => socket.send_to(b"x", &to.into()).map(drop)?,
    }
    received(&socket)
}

/// Sends with IP_PKTINFO or IPV6_PKTINFO, which asks for a source address.
fn send_from(socket: &Socket, to: SocketAddr, source: IpAddr, is_connected: bool) -> io::Result<()> {
    let mut byte = *b"x";
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0u64; 8];
    let name: socket2::SockAddr = to.into();
    // SAFETY: plain old data.
    let mut message: libc::msghdr = unsafe { zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    if !is_connected {
        message.msg_name = name.as_ptr().cast_mut().cast();
        message.msg_namelen = name.len();
    }
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: there is room for either; the header lies at the buffer's beginning, which is aligned.
    let answer = unsafe {
        let (level, kind, length) = match source {
            IpAddr::V4(_) => (libc::SOL_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>()),
            IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>()),
        };
        message.msg_controllen = libc::CMSG_SPACE(length as u32) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        ((*header).cmsg_level, (*header).cmsg_type) = (level, kind);
        (*header).cmsg_len = libc::CMSG_LEN(length as u32) as usize;
        match source {
            IpAddr::V4(v4) => {
                let mut info: libc::in_pktinfo = zeroed();
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(v4.octets());
                libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().write_unaligned(info);
            }
            IpAddr::V6(v6) => {
                let mut info: libc::in6_pktinfo = zeroed();
                info.ipi6_addr.s6_addr = v6.octets();
                libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>().write_unaligned(info);
            }
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks for an echo by a socket of ICMP, whose identifier is the port (icmp(7)); bound to an address if one is given.
pub fn echo(words: &Words<'_>) -> io::Result<String> {
    let to = words.address(1)?;
    let protocol = if to.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(protocol))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    if let Some(from) = words.value("from") {
        let from: SocketAddr = from.parse().map_err(io::Error::other)?;
        socket.bind(&from.into())?;
    }
    let kind = if to.is_ipv4() { 8 } else { 128 };
    socket.send_to(&[kind, 0, 0, 0, 0, 0, 0, 1], &to.into())?;
    received(&socket).map(|_| "echoed".to_owned())
}

/// Answers at an address by TCP or UDP with a name, and behind it with `told` whom it sees, for as long as the process
/// lives.
pub fn listen(words: &Words<'_>) -> io::Result<String> {
    let at = words.address(2)?;
    let name = words.at(3)?.to_owned();
    let is_told = words.has("told");
    let answer = move |from: Option<SocketAddr>| match from {
        Some(from) if is_told => format!("{name} {}", from.ip()),
        _ => name.clone(),
    };
    let kind = if words.at(1)? == "tcp" { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(Domain::for_address(at), kind, None)?;
    socket.set_reuse_address(kind == Type::STREAM)?;
    if let IpAddr::V6(Ipv6Addr::UNSPECIFIED) = at.ip() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&at.into())?;
    if kind == Type::STREAM {
        socket.listen(64)?;
        std::thread::spawn(move || {
            while let Ok((mut accepted, from)) = socket.accept() {
                let _ = accepted.write_all(answer(from.as_socket()).as_bytes());
                std::thread::spawn(move || {
                    let mut bytes = [0; 100];
                    while let Ok(length @ 1..) = accepted.read(&mut bytes) {
                        let _ = accepted.write_all(&bytes[..length]);
                    }
                });
            }
        });
    } else {
        std::thread::spawn(move || {
            let socket: std::net::UdpSocket = socket.into();
            let mut bytes = [0; 100];
            while let Ok((_, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(answer(Some(from)).as_bytes(), from);
            }
        });
    }
    Ok("listening".to_owned())
}

/// A socket that nothing is done with yet, or a connection.
pub fn open(words: &Words<'_>) -> io::Result<Socket> {
    let kind = match words.at(1)? {
        "tcp" | "connection" => Type::STREAM,
        _ => Type::DGRAM,
    };
    let Ok(to) = words.address(3) else {
        let socket = Socket::new(Domain::IPV4, kind, None)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        return Ok(socket);
    };
    let (socket, to) = made(words, kind, to)?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    received(&socket).map(|_| socket)
}

/// Connects or sends by a socket that is there; as whom the other end sees it.
pub fn converse(socket: &Socket, to: SocketAddr) -> io::Result<String> {
    if socket.r#type()? == Type::STREAM {
        socket.connect_timeout(&to.into(), PATIENCE)?;
    } else {
        socket.send_to(b"x", &to.into())?;
    }
    received(socket)
}

/// Says something by a connection, and hears it again.
pub fn say(mut socket: &Socket) -> io::Result<String> {
    socket.write_all(b"hello")?;
    received(socket)
}

/// Sets an option; whether that took effect.
pub fn option(words: &Words<'_>) -> io::Result<String> {
    let of = |family: i32, kind: Type| Socket::new(Domain::from(family), kind, None);
    match words.at(1)? {
        "bypass" => set(
            &of(libc::AF_PACKET, Type::DGRAM)?,
            libc::SOL_PACKET,
            PACKET_QDISC_BYPASS,
            &1i32.to_ne_bytes(),
        )?,
        "xdp" => set(&of(libc::AF_XDP, Type::RAW)?, SOL_XDP, XDP_RX_RING, &64i32.to_ne_bytes())?,
        "version" => {
            set(&of(libc::AF_PACKET, Type::RAW)?, libc::SOL_PACKET, PACKET_VERSION, &1i32.to_ne_bytes())?;
        }
        "keepalive" => {
            let socket = of(libc::AF_INET, Type::STREAM)?;
            socket.set_keepalive(true)?;
            if !socket.keepalive()? {
                return Err(io::Error::other("it was not set"));
            }
        }
        _ => {
            // Longer than what programs are shown.
            let mut value = b"cubic".to_vec();
            value.resize(9005, 0);
            set(&of(libc::AF_INET, Type::STREAM)?, libc::SOL_TCP, libc::TCP_CONGESTION, &value)?;
        }
    }
    Ok("set".to_owned())
}

/// Hears what a connection is told first.
pub fn say_nothing(socket: &Socket) -> io::Result<String> {
    socket.set_read_timeout(Some(PATIENCE))?;
    received(socket)
}
