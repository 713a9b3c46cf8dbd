//! What a host has, as far as a first policy needs to know.

use std::net::{IpAddr, SocketAddr};

use bulkhead_api::session::Session;
use bulkhead_dataplane::Connection;
use ipnet::IpNet;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// What it calls itself.
    pub name: String,
    /// Its interfaces, but for loopback.
    pub interfaces: Vec<Interface>,
    /// What `tailscale status --json` printed.
    pub tailscale: Option<String>,
    /// What `netbird status --json` printed.
    pub netbird: Option<String>,
    /// Sockets that wait for packets of others.
    pub listeners: Vec<Listener>,
    /// First and last of the ports that the kernel gives to whoever asks for any.
    pub ephemeral: [u16; 2],
    /// Its open TCP connections.
    pub connections: Vec<Connection>,
    /// The SSH session at hand.
    pub session: Option<Session>,
    /// What could not be asked, and why.
    pub unknown: Vec<String>,
}

/// One network interface.
#[derive(Clone, Debug, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What the kernel calls it: `wireguard`, `tun`, `bridge` and so on; empty for a card.
    pub kind: String,
    /// It hands over IP packets, without a link layer.
    pub is_bare_ip: bool,
    /// The host's addresses there, with their networks.
    pub addresses: Vec<IpNet>,
    /// A default route of the main table leads there.
    pub is_uplink: bool,
    /// What WireGuard has there, if it does.
    pub wireguard: Option<WireGuard>,
}

/// A WireGuard interface, without what is secret of it.
#[derive(Clone, Debug, Default)]
pub struct WireGuard {
    /// Its public key.
    pub key: Option<[u8; 32]>,
    /// The UDP port of its transport.
    pub port: Option<u16>,
    /// Its peers.
    pub peers: Vec<Peer>,
}

/// One peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its public key.
    pub key: [u8; 32],
    /// The addresses that it may have, and what lies behind it.
    pub allowed: Vec<IpNet>,
}

/// A socket that waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Where.
    pub at: SocketAddr,
    /// Whose it is, if that can be seen.
    pub process: Option<String>,
}

/// Which overlay an interface is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// Tailscale's, or headscale's.
    Tailscale,
    /// NetBird's.
    NetBird,
    /// WireGuard, of the kernel or in user space.
    WireGuard,
}

impl Interface {
    /// Which overlay it is of; none if it is not, or nothing tells.
    #[must_use]
    pub fn overlay(&self) -> Option<Overlay> {
        let is_tunnel = self.kind == "wireguard" || (self.kind == "tun" && self.is_bare_ip);
        match &*self.name {
            name if is_tunnel && name.starts_with("tailscale") => Some(Overlay::Tailscale),
            name if is_tunnel && is_numbered(name, "wt") => Some(Overlay::NetBird),
            name if self.wireguard.is_some() || (is_tunnel && name.starts_with("wg")) => {
                Some(Overlay::WireGuard)
            }
            _ if self.kind == "wireguard" => Some(Overlay::WireGuard),
            _ => None,
        }
    }

    /// The addresses by which others know this host there: not those of the link alone.
    pub fn own(&self) -> impl Iterator<Item = IpAddr> {
        let is_of_the_link = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        self.addresses.iter().map(IpNet::addr).filter(move |address| !is_of_the_link(address))
    }
}

fn is_numbered(name: &str, start: &str) -> bool {
    let number = name.strip_prefix(start).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

impl Host {
    /// The interfaces to enforce on, with the overlay of each.
    pub fn managed(&self) -> impl Iterator<Item = (&Interface, Overlay)> {
        self.interfaces.iter().filter_map(|interface| Some((interface, interface.overlay()?)))
    }
}
