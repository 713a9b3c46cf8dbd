//! A wg-quick style file: what `bulkhead tunnel` is to bring up.
//!
//! The format is that of wg(8) and wg-quick(8): sections `[Interface]` and `[Peer]`, `Key = value` lines,
//! `#` comments, keys and section names in any case. A key that nobody knows is an error; one that wg-quick
//! would act on and we do not (hooks, DNS) is a warning, and never run.

mod keys;
mod parse;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;

pub use parse::parse;

/// The largest name of an interface, in bytes (IFNAMSIZ less its terminating zero).
pub const MAX_INTERFACE_NAME: usize = 15;

/// What one file says.
#[derive(Debug)]
pub struct Config {
    /// The `[Interface]` section.
    pub interface: Interface,
    /// The `[Peer]` sections, in order.
    pub peers: Vec<Peer>,
    /// What the file asks for and we do not do, each with its position.
    pub warnings: Vec<String>,
}

/// The `[Interface]` section.
#[derive(Debug)]
pub struct Interface {
    pub private_key: Secret,
    /// Our addresses, host bits kept.
    pub addresses: Vec<IpNet>,
    /// The UDP port to listen on; 0 lets the kernel choose.
    pub listen_port: u16,
    /// In bytes of the inner packet.
    pub mtu: u16,
    pub table: Table,
    /// The firewall mark of the packets we send on the underlay; 0 is none.
    pub mark: u32,
}

/// Where the routes to the peers' allowed addresses go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// No routes.
    Off,
    /// The main table.
    Main,
    /// This routing table.
    Number(u32),
}

/// A `[Peer]` section.
#[derive(Debug)]
pub struct Peer {
    pub public_key: [u8; 32],
    pub preshared_key: Option<Secret>,
    /// Prefixes without host bits.
    pub allowed: Vec<IpNet>,
    pub endpoint: Option<Endpoint>,
    /// Seconds between keepalives; 0 is off.
    pub keepalive: u16,
    /// The line of its `[Peer]`, from 1.
    pub line: usize,
}

/// Where a peer is reached on the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Address(SocketAddr),
    /// A host name, resolved when the tunnel starts.
    Name {
        host: String,
        port: u16,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Address(address) => address.fmt(f),
            Endpoint::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// A private or pre-shared key, kept out of logs.
#[derive(Clone)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A line that cannot be used: where it is, what is wrong with it and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct ConfigError {
    /// The file, as it is named in messages.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong, and what to write. Never the line itself, which may hold a key.
    pub message: String,
}

/// Says why a name cannot be an interface's, if it cannot.
pub fn check_interface_name(name: &str) -> Result<(), String> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_INTERFACE_NAME {
        "is longer than 15 characters"
    } else if name == "." || name == ".." || name.chars().any(|c| c == '/' || c == '%' || c.is_whitespace()) {
        "has a character that no interface name may have"
    } else {
        return Ok(());
    };
    Err(format!("the interface name {name:?} {problem}; give another with --interface, such as wg0"))
}
