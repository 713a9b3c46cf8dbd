//! Packets as they are, IP header included, by raw sockets (raw(7)).

use std::net::SocketAddr;

use bulkhead_testkit::lab::Namespace;
use bulkhead_testkit::packets::build::Ip;
use socket2::{Domain, Protocol, Socket, Type};

/// IPPROTO_RAW: what is sent begins with its own header.
const RAW: i32 = 255;

/// Sends a packet from a host by the route to its destination.
pub fn send(from: &Namespace, packet: &Ip) {
    let domain = if packet.destination.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let to = SocketAddr::new(packet.destination, 0).into();
    let sent = from.run(|| {
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)))?;
        socket.send_to(&packet.bytes(), &to)
    });
    assert_eq!(sent.unwrap().unwrap(), packet.bytes().len());
}
