//! What others can reach here, and to whom this host talks, as it is now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bulkhead_abi::Direction;

use super::host::{Host, Listener};

/// What overlays' own programs are called: their packets go beside the overlay.
const OVERLAYS: [&str; 6] =
    ["tailscaled", "netbird", "wireguard-go", "boringtun", "boringtun-cli", "bulkhead"];

/// Ports of protocols that stay on a link: DHCP, DHCPv6, mDNS, LLMNR.
const OF_THE_LINK: [u16; 4] = [68, 546, 5353, 5355];

/// The port of SSH.
const SSH: u16 = 22;

/// What is reached here.
#[derive(Default)]
pub struct Services {
    /// Ports by the program's name and the protocol.
    pub admitted: BTreeMap<(String, &'static str), BTreeSet<u16>>,
    /// What waits and gets no rule, with the reason.
    pub passed_over: BTreeSet<String>,
    /// TCP ports of others in the overlay that this host talks to now, with the others' addresses.
    pub used: BTreeMap<u16, BTreeSet<IpAddr>>,
}

/// The services of a host on its own overlay addresses.
pub fn services(host: &Host, own: &[IpAddr], is_member: impl Fn(IpAddr) -> bool) -> Services {
    let mut services = Services::default();
    let transport: BTreeSet<u16> =
        host.interfaces.iter().filter_map(|interface| interface.wireguard.as_ref()?.port).collect();
    let reachable =
        |listener: &&Listener| listener.at.ip().is_unspecified() || own.contains(&listener.at.ip());
    for listener in host.listeners.iter().filter(reachable) {
        let port = listener.at.port();
        let program = listener.process.as_deref().unwrap_or("unknown");
        let is_udp = listener.protocol == "udp";
        let why = if OVERLAYS.contains(&program) || (is_udp && transport.contains(&port)) {
            Some("an overlay's own")
        } else if is_udp && OF_THE_LINK.contains(&port) {
            Some("of the link alone")
        } else if is_udp && (host.ephemeral[0]..=host.ephemeral[1]).contains(&port) {
            Some("a port for questions to others")
        } else {
            None
        };
        match why {
            Some(why) => {
                let what = format!("{program}, {} {port}: {why}", listener.protocol);
                services.passed_over.insert(what);
            }
            None => {
                let ports = services.admitted.entry((program.to_owned(), listener.protocol)).or_default();
                ports.insert(port);
            }
        }
    }
    for open in &host.connections {
        let is_ours = open.begun == Some(Direction::Egress) && own.contains(&open.local.ip());
        if is_ours && is_member(open.remote.ip()) {
            services.used.entry(open.remote.port()).or_default().insert(open.remote.ip());
        }
    }
    services
}

/// Who operates this host by SSH now, by the port: the session at hand, and open connections to sshd.
pub fn operators(host: &Host) -> BTreeMap<u16, BTreeSet<IpAddr>> {
    let is_sshd = |listener: &&Listener| {
        listener.protocol == "tcp" && listener.process.as_deref().is_some_and(|name| name.starts_with("sshd"))
    };
    let mut ports: BTreeSet<u16> =
        host.listeners.iter().filter(is_sshd).map(|listener| listener.at.port()).collect();
    // systemd listens for an sshd that it starts for each connection.
    ports.insert(SSH);
    let mut operators: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
    let open = host.connections.iter().filter(|open| open.begun == Some(Direction::Ingress));
    let open =
        open.map(|open| (open.remote.ip(), open.local.port())).filter(|(_, port)| ports.contains(port));
    let session = host.session.map(|session| (session.client.ip(), session.server.port()));
    for (client, port) in open.chain(session).filter(|(client, _)| !client.is_loopback()) {
        operators.entry(port).or_default().insert(client);
    }
    operators
}
