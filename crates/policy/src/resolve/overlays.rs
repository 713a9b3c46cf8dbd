//! Addresses that an overlay's own program serves on the host: packets to them go out through the overlay's
//! interface, and the program answers them there. No peer has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::frontend::diagnostic::Location;
use crate::service::{TCP, UDP};

/// An overlay whose services a node may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Overlay {
    /// Tailscale, of whatever control server.
    Tailscale,
    /// NetBird.
    NetBird,
}

/// An overlay's services, as an agent's configuration exempts them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayServices {
    /// Whose.
    pub overlay: Overlay,
    /// Where it is configured, for findings.
    #[serde(skip)]
    pub location: Option<Location>,
}

/// Ports of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The address.
    pub address: IpAddr,
    /// The protocol's number.
    pub protocol: u8,
    /// Its ports.
    pub ports: &'static [u16],
}

/// `TailscaleServiceIP` and `TailscaleServiceIPv6` (net/tsaddr).
const TAILSCALE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 100)),
    IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0x53)),
];

/// DNS, the node's own web page, and Taildrive: what `handleLocalPackets` (wgengine/netstack) takes.
const OF_TAILSCALE: [(u8, &[u16]); 2] = [(UDP, &[53]), (TCP, &[53, 80, 8080])];

/// `ServiceViaMemory` (client/internal/dns).
const OF_NETBIRD: [(u8, &[u16]); 2] = [(UDP, &[53]), (TCP, &[53])];

impl Overlay {
    /// Its name, as in agent.toml.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tailscale => "tailscale",
            Self::NetBird => "netbird",
        }
    }

    /// What it serves on a node that has these addresses.
    #[must_use]
    pub fn served(self, own: &[IpAddr]) -> Vec<Served> {
        let (addresses, services) = match self {
            Self::Tailscale => (TAILSCALE.to_vec(), OF_TAILSCALE),
            Self::NetBird => (own.iter().filter_map(|address| netbird(*address)).collect(), OF_NETBIRD),
        };
        let mut served = Vec::new();
        for address in addresses {
            let all = services.iter().map(|(protocol, ports)| Served { address, protocol: *protocol, ports });
            for one in all {
                if !served.contains(&one) {
                    served.push(one);
                }
            }
        }
        served
    }
}

/// The last address but one of a node's network: NetBird gives each account a /16 of 100.64.0.0/10.
fn netbird(own: IpAddr) -> Option<IpAddr> {
    let IpAddr::V4(own) = own else { return None };
    let [first, second, ..] = own.octets();
    (first == 100 && (64..128).contains(&second)).then(|| Ipv4Addr::new(first, second, 255, 254).into())
}

#[cfg(test)]
mod tests {
    use super::Overlay;

    #[test]
    fn what_is_served_is_said_for_the_nodes_own_networks() {
        let own = ["100.119.3.4", "100.119.3.5", "10.0.0.1", "fd7a::1", "100.128.0.1"];
        let own = own.map(|address| address.parse().unwrap());
        let of = |overlay: Overlay| {
            let served = overlay.served(&own);
            served
                .iter()
                .map(|one| format!("{} {} {:?}", one.address, one.protocol, one.ports))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Overlay::NetBird), ["100.119.255.254 17 [53]", "100.119.255.254 6 [53]"]);
        assert_eq!(
            of(Overlay::Tailscale),
            [
                "100.100.100.100 17 [53]",
                "100.100.100.100 6 [53, 80, 8080]",
                "fd7a:115c:a1e0::53 17 [53]",
                "fd7a:115c:a1e0::53 6 [53, 80, 8080]",
            ]
        );
    }
}
