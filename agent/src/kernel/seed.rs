//! First attach cuts no running connection: the host's own TCP connections become flows.

use std::net::{IpAddr, SocketAddr};

use bulkhead_engine::layout::{
    Direction, FLOW_ESTABLISHED, FlowKey, FlowRecord, FlowState, FlowValue, NO_RULE, RECORD_NEW, from_ip,
};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};

use super::{Importer, KernelError};

/// One of the host's TCP connections: local and remote end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// This host's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

/// The host's open TCP connections in this network namespace (inet_diag, sock_diag(7)).
///
/// # Errors
/// If the kernel refuses.
pub fn connections() -> Result<Vec<Connection>, KernelError> {
    let mut found = Vec::new();
    for (family, id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        dump(family, id, &mut found).map_err(KernelError::refused("listing this host's connections"))?;
    }
    Ok(found)
}

fn dump(family: u8, socket_id: SocketId, found: &mut Vec<Connection>) -> std::io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let open = StateFlags::all() - StateFlags::LISTEN - StateFlags::CLOSE - StateFlags::TIME_WAIT;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: open,
        socket_id,
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = &answer[..];
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(std::io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    found.push(connection(&response.header.socket_id));
                }
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            // Messages are aligned to 4 bytes.
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or(&[]);
        }
    }
}

fn connection(id: &SocketId) -> Connection {
    let end = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
    Connection {
        local: end(id.source_address, id.source_port),
        remote: end(id.destination_address, id.destination_port),
    }
}

/// How long after a first attach open connections that the host forwards are taken up, seconds: their
/// ends are on other hosts, which nobody can ask. Long enough for a keepalive of most programs.
pub const FORWARDED_GRACE: u32 = 300;

/// What is recorded of a connection that is open now.
const fn open_flow(now: u64) -> FlowValue {
    FlowValue {
        last_seen: now,
        generation: 0,
        rule: NO_RULE,
        state: FlowState::TcpEstablished as u8,
        flags: FLOW_ESTABLISHED,
        reserved: [RECORD_NEW, 0, 0, 0, 0, 0],
    }
}

/// The flow that a connection would be if its `initiator` end had started it.
pub(super) fn key(initiator: SocketAddr, responder: SocketAddr, direction: Direction, zone: u16) -> FlowKey {
    FlowKey {
        initiator: from_ip(initiator.ip()),
        responder: from_ip(responder.ip()),
        initiator_port: initiator.port(),
        responder_port: responder.port(),
        zone,
        protocol: IPPROTO_TCP,
        direction: direction.index() as u8,
    }
}

/// Records connections as established flows, where they are not tracked yet. Who started a
/// connection is not known, so both ways are recorded: a reply is judged by the policy again, and
/// the flow that it does not allow admits nothing. `now` is the flow clock's. Returns how many
/// flows found no place.
///
/// # Errors
/// If the kernel refuses.
pub fn seed(
    importer: &mut Importer,
    connections: &[Connection],
    zones: &[u16],
    now: u64,
) -> Result<usize, KernelError> {
    store(importer, connections, zones, now, |connection, zone| {
        [
            key(connection.remote, connection.local, Direction::Ingress, zone),
            key(connection.local, connection.remote, Direction::Egress, zone),
        ]
    })
}

/// Records both ways of connections in these zones, as flows that are open now. Returns how many found no place.
pub(super) fn store<T>(
    importer: &mut Importer,
    connections: &[T],
    zones: &[u16],
    now: u64,
    both_ways: impl Fn(&T, u16) -> [FlowKey; 2],
) -> Result<usize, KernelError> {
    let (flow, both_ways) = (open_flow(now), &both_ways);
    let of = |connection| zones.iter().flat_map(move |zone| both_ways(connection, *zone));
    importer.store(connections.iter().flat_map(of).map(|key| FlowRecord { key, flow }))
}

/// The flow clock now: coarse monotonic time, ns.
#[must_use]
pub fn flow_clock() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec to fill in; every kernel has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::{Connection, connections};

    #[test]
    fn open_connections_are_listed_from_both_ends() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (here, there) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let found = connections().unwrap();
            assert!(found.contains(&Connection { local: here, remote: there }), "{found:?}");
            assert!(found.contains(&Connection { local: there, remote: here }), "{found:?}");
            assert!(!found.iter().any(|connection| connection.remote.port() == 0), "listeners are none");
        }
    }
}
