//! Single values of a wg-quick style file. Errors say what the value is not; the caller puts the position and the
//! key before them. None repeats the value: it may be a private key, pasted into the wrong line.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use super::{Endpoint, Table};

/// A key: 32 bytes in base64.
pub fn key(text: &str) -> Result<[u8; 32], String> {
    STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        "is not a WireGuard key: 32 bytes in base64, 44 characters; `wg genkey` makes one".into()
    })
}

/// A comma-separated list of addresses with an optional prefix length.
pub fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(network).collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        "has what is not an address or prefix; write each like 100.64.0.1/32 or fd7a::1/128".into()
    })
}

/// `host:port`, `address:port` or `[IPv6 address]:port`.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err("has port 0; write the peer's listening port".into()),
            _ => Ok(Endpoint::Address(address)),
        };
    }
    let wrong = || "is not host:port, address:port or [IPv6 address]:port".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(wrong)?;
    let name = !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_')
        // A label has at most 63 characters (RFC 1035): a key in hexadecimal is none, and is not looked up.
        && host.split('.').all(|label| label.len() <= 63)
        // 300.1.2.3 is a mistyped address, not a name.
        && host.chars().any(|c| c.is_ascii_alphabetic());
    if name { Ok(Endpoint::Name { host: host.to_owned(), port }) } else { Err(wrong()) }
}

/// A number, or `off` for 0.
pub fn number_or_off<T: std::str::FromStr + Default>(text: &str, largest: &str) -> Result<T, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(T::default());
    }
    text.parse().map_err(|_| format!("is not a number from 0 to {largest}, nor `off`"))
}

/// A firewall mark: decimal, 0x… or `off`.
pub fn mark(text: &str) -> Result<u32, String> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).map_err(|_| "is not a 32-bit number".to_owned()),
        None => number_or_off(text, "4294967295"),
    }
}

/// A UDP port.
pub fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "is not a UDP port; write a number from 0 to 65535".into())
}

/// An MTU: what IPv4 needs at least (RFC 791), and room for WireGuard's own headers below 65,535.
pub fn mtu(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|mtu| (576..=65_455).contains(mtu))
        .ok_or_else(|| "is not an MTU; write a number from 576 to 65455, or leave it out for 1420".into())
}

/// `off`, `auto` or the number of a routing table.
pub fn table(text: &str) -> Result<Table, String> {
    match text {
        _ if text.eq_ignore_ascii_case("off") => Ok(Table::Off),
        _ if text.eq_ignore_ascii_case("auto") || text.eq_ignore_ascii_case("main") => Ok(Table::Main),
        _ => text
            .parse()
            .ok()
            .filter(|&number| number != 0)
            .map(Table::Number)
            .ok_or_else(|| "is not a routing table; write `off`, `auto` or a number from 1".into()),
    }
}
