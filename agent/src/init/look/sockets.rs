//! Sockets that wait, and whose they are (proc(5)).

use procfs::net::{TcpNetEntry, TcpState, UdpNetEntry};

use crate::init::host::Listener;
use crate::owners;

/// TCP sockets that listen, and UDP sockets that take packets of anybody, in order.
pub(super) fn listeners() -> Vec<Listener> {
    let owners = owners::of_sockets();
    // A kernel without IPv6 has half of these files.
    let tcp = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten();
    let udp = [procfs::net::udp(), procfs::net::udp6()].into_iter().flatten().flatten();
    let listening = tcp.filter(|socket: &TcpNetEntry| socket.state == TcpState::Listen);
    let open = udp.filter(|socket: &UdpNetEntry| {
        socket.remote_address.ip().is_unspecified() && socket.remote_address.port() == 0
    });
    let listening = listening.map(|socket| ("tcp", socket.local_address, socket.inode));
    let open = open.map(|socket| ("udp", socket.local_address, socket.inode));
    let mut all: Vec<Listener> = listening
        .chain(open)
        .map(|(protocol, mut at, inode)| {
            at.set_ip(at.ip().to_canonical());
            Listener { protocol, at, process: owners.get(&inode).map(|owner| owner.name.clone()) }
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

/// The ports that the kernel gives to whoever asks for any; none, 0 to 0, if it does not say.
pub(super) fn ephemeral() -> [u16; 2] {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_whitespace().map(str::parse);
    match (ports.next(), ports.next()) {
        (Some(Ok(first)), Some(Ok(last))) => [first, last],
        _ => [0, 0],
    }
}
