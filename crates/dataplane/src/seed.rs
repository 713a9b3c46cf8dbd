//! First attach cuts no running connection: the host's own TCP connections become flows.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bulkhead_abi::{
    Direction, FLOW_ESTABLISHED, FlowKey, FlowRecord, FlowState, FlowValue, NO_RULE, RECORD_NEW, from_ip,
};
use bulkhead_engine::begun;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::dump::dump;
use super::outward::outward_ports;
use super::{Importer, KernelError};

/// One of the host's TCP connections: local and remote end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// This host's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Which way it was begun, as far as this host's port tells, see [`begun`].
    pub begun: Option<Direction>,
}

/// The host's open TCP connections in this network namespace (inet_diag, sock_diag(7)).
///
/// # Errors
/// If the kernel refuses.
pub fn connections() -> Result<Vec<Connection>, KernelError> {
    let (mut open, mut listeners) = (Vec::new(), HashSet::new());
    for (family, id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        sockets(family, id, |state, local, remote| {
            if StateFlags::LISTEN.bits() >> state & 1 != 0 {
                listeners.insert(local);
            } else {
                open.push((local, remote));
            }
        })
        .map_err(KernelError::refused("listing this host's connections"))?;
    }
    let outward = outward_ports();
    let connections = open.into_iter().map(|(local, remote)| {
        let port = local.port();
        let anywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let mut addresses = anywhere.into_iter().chain([local.ip()]);
        let is_listened_on = addresses.any(|address| listeners.contains(&SocketAddr::new(address, port)));
        Connection { local, remote, begun: begun(is_listened_on, port, outward) }
    });
    Ok(connections.collect())
}

/// Lists sockets: the number of their state (net/tcp_states.h), local and remote end.
fn sockets(
    family: u8,
    socket_id: SocketId,
    mut found: impl FnMut(u8, SocketAddr, SocketAddr),
) -> std::io::Result<()> {
    let states = StateFlags::all() - StateFlags::CLOSE - StateFlags::TIME_WAIT;
    let request =
        InetRequest { family, protocol: IPPROTO_TCP, extensions: ExtensionFlags::empty(), states, socket_id };
    // What comes or goes meanwhile is not waited for.
    dump(NETLINK_SOCK_DIAG, SockDiagMessage::InetRequest(request), |message| {
        if let SockDiagMessage::InetResponse(response) = message {
            let id = &response.header.socket_id;
            let end = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
            let local = end(id.source_address, id.source_port);
            found(response.header.state, local, end(id.destination_address, id.destination_port));
        }
    })?;
    Ok(())
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
        begun: [RECORD_NEW, 0, 0, 0, 0, 0],
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

/// Records connections as established flows, where they are not tracked yet. Where it is not known who began
/// a connection, both ways are recorded: a reply is judged by the policy again, and the flow that it does not
/// allow admits nothing. `now` is the flow clock's. Returns how many flows found no place.
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
        let Connection { local, remote, begun } = *connection;
        let ways =
            [key(remote, local, Direction::Ingress, zone), key(local, remote, Direction::Egress, zone)];
        ways.into_iter().filter(move |way| begun.is_none_or(|begun| way.direction == begun.index() as u8))
    })
}

/// Records connections in these zones, either way that they may have been begun, as flows that are open now.
/// Returns how many found no place.
pub(super) fn store<T, I: IntoIterator<Item = FlowKey>>(
    importer: &mut Importer,
    connections: &[T],
    zones: &[u16],
    now: u64,
    ways: impl Fn(&T, u16) -> I,
) -> Result<usize, KernelError> {
    let (flow, ways) = (open_flow(now), &ways);
    let of = |connection| zones.iter().flat_map(move |zone| ways(connection, *zone));
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

    use bulkhead_abi::Direction;

    use super::{Connection, connections};

    #[test]
    fn open_connections_are_listed_from_both_ends() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (here, there) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let found = connections().unwrap();
            let ours = Connection { local: here, remote: there, begun: Some(Direction::Egress) };
            let theirs = Connection { local: there, remote: here, begun: Some(Direction::Ingress) };
            assert!(found.contains(&ours) && found.contains(&theirs), "{found:?}");
            assert!(!found.iter().any(|connection| connection.remote.port() == 0), "listeners are none");
            // Nobody listens any more, and the port is one of those for connections outwards.
            let (accepted, _) = listener.accept().unwrap();
            drop(listener);
            let found = connections().unwrap();
            assert!(found.contains(&Connection { begun: Some(Direction::Egress), ..theirs }), "{found:?}");
            drop(accepted);
        }
    }
}
