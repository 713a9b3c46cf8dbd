//! Who listens at a host's overlay addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bulkhead_policy::service::{TCP, UDP};

use crate::exposed::sockets::{Socket, Transport};
use crate::owners::Owner;

/// A workload of the host: a cgroup with overlay addresses of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// `HOST/WORKLOAD`.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The ids of its cgroup and of those below it.
    pub cgroups: BTreeSet<u64>,
}

/// The host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its overlay addresses, without those of its workloads.
    pub addresses: Vec<IpAddr>,
    /// Its workloads.
    pub workloads: Vec<Workload>,
}

/// A port at which somebody listens, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// The port.
    pub port: u16,
    /// The overlay addresses at which it is taken, in order.
    pub addresses: Vec<IpAddr>,
    /// One of these for each of its sockets.
    pub sockets: Vec<IpAddr>,
    /// By a socket that takes packets of every address.
    pub is_wildcard: bool,
    /// The workload whose it is.
    pub workload: Option<String>,
    /// Whose its sockets are.
    pub process: Option<Owner>,
    /// The inodes of its sockets.
    pub inodes: Vec<u64>,
}

/// A protocol's name.
#[must_use]
pub const fn name(protocol: u8) -> &'static str {
    if protocol == UDP { "udp" } else { "tcp" }
}

/// Who takes packets: how closely bound ([`rank`]), the socket, and the workload whose it is.
type Taker<'a> = (u8, &'a Socket, Option<&'a Workload>);

/// The ports, in order. A socket at an address comes before one that takes every address, which comes before one of IPv6
/// that takes IPv4 as well. Sockets of a workload take its own addresses, and no others do.
#[must_use]
pub fn listening(sockets: &[Socket], owners: &BTreeMap<u64, Owner>, host: &Host) -> Vec<Listening> {
    let mut taken: BTreeMap<(u8, u16, IpAddr), Taker<'_>> = BTreeMap::new();
    for socket in sockets {
        let protocol = match socket.transport {
            Transport::Tcp => TCP,
            Transport::Udp => UDP,
            Transport::Raw => continue,
        };
        let is_of = |workload: &&Workload| socket.cgroup.is_some_and(|id| workload.cgroups.contains(&id));
        let workload = host.workloads.iter().find(is_of);
        for address in workload.map_or(&host.addresses, |workload| &workload.addresses) {
            let Some(rank) = rank(socket, *address) else { continue };
            let best = taken.entry((protocol, socket.port, *address)).or_insert((rank, socket, workload));
            if rank < best.0 {
                *best = (rank, socket, workload);
            }
        }
    }
    let mut ports: Vec<Listening> = Vec::new();
    for ((protocol, port, address), (_, socket, workload)) in taken {
        let process = owners.get(&socket.inode);
        let workload = workload.map(|workload| workload.name.clone());
        let name = |owner: Option<&Owner>| owner.map(|owner| owner.name.clone());
        let is_same = |known: &Listening| {
            (known.protocol, known.port) == (protocol, port)
                && known.workload == workload
                && name(known.process.as_ref()) == name(process)
        };
        let at = ports.iter().position(is_same);
        let at = at.unwrap_or_else(|| {
            ports.push(Listening {
                protocol,
                port,
                addresses: Vec::new(),
                sockets: Vec::new(),
                is_wildcard: false,
                workload,
                process: process.cloned(),
                inodes: Vec::new(),
            });
            ports.len() - 1
        });
        let found = &mut ports[at];
        found.addresses.push(address);
        found.is_wildcard |= socket.address.is_unspecified();
        if !found.inodes.contains(&socket.inode) {
            found.inodes.push(socket.inode);
            found.sockets.push(address);
        }
    }
    ports
}

/// How closely a socket is bound to an address; none: it does not take its packets.
fn rank(socket: &Socket, address: IpAddr) -> Option<u8> {
    match socket.address {
        own if own == address => Some(0),
        own if own.is_unspecified() && own.is_ipv4() == address.is_ipv4() => Some(1),
        own if own.is_unspecified() && socket.is_dual => Some(2),
        _ => None,
    }
}
