//! What is attempted: commands of the actor, drawn at random.

use std::net::IpAddr;

use super::{BEGUN, Host, PEERS, SERVED, STRANGERS};

/// One that anybody may be told, to whatever is his at the peer.
pub fn draw(random: &mut fastrand::Rng, host: &Host, who: usize) -> String {
    let is_v6 = random.u8(..4) == 0;
    let family = usize::from(is_v6);
    let port = BEGUN + who as u16;
    let at = |port: u16| at(PEERS[family], port);
    let to = at(port);
    let source = source(random, host, who, is_v6);
    let from = if is_v6 { format!("[{source}]") } else { source.to_string() };
    let bound = if random.bool() { 0 } else { random.u16(50_000..60_000) };
    let mut command = match random.u8(..16) {
        0..=2 => format!("tcp {to} from={from}:{bound}"),
        3 | 4 => format!("udp {to} from={from}:{bound}"),
        5 | 6 => format!("udp {to} source={source}"),
        7 => format!("raw {source} {to}"),
        8 => format!("packet {source} {to} wg0"),
        9 => return format!("ring {to}"),
        10 => return format!("ring {to} sqpoll"),
        // By another program, which it executes.
        11 => format!("child tcp {to}"),
        // From another namespace, as whoever has that; and from there back again.
        12 => return format!("within {} tcp {}", host.elsewhere, at(STRANGERS)),
        13 => return format!("within {},{} tcp {to}", host.elsewhere, host.here),
        // Its identifier is its port.
        14 => return format!("echo {} from={from}:{port}", at(0)),
        // To another of the host, by lo.
        _ => {
            let other = random.usize(..host.own.len());
            let addresses: Vec<_> =
                host.own[other].iter().filter(|address| address.is_ipv6() == is_v6).collect();
            let Some(address) = addresses.first() else { return format!("tcp {to}") };
            let by = if random.bool() { "tcp" } else { "udp" };
            format!("{by} {} from={from}:{bound}", self::at(address, SERVED + other as u16))
        }
    };
    for (option, fits) in [
        ("transparent", !is_v6),
        ("freebind", !is_v6),
        ("mptcp", command.contains("tcp ")),
        ("mapped", !is_v6 && !command.contains("from=") && !command.contains("source=")),
        ("device=wg0", !command.contains("child") && command.contains(&to)),
        ("connect", command.starts_with("udp")),
        ("fastopen", command.contains("tcp ")),
    ] {
        if fits && !is_forged(&command) && random.u8(..5) == 0 {
            command = format!("{command} {option}");
        }
    }
    command
}

/// Whether nobody is waited for.
fn is_forged(command: &str) -> bool {
    command.starts_with("raw") || command.starts_with("packet")
}

/// Any address that the host has, often the right one, or none.
fn source(random: &mut fastrand::Rng, host: &Host, who: usize, is_v6: bool) -> IpAddr {
    let fixed = if is_v6 { ["::", "::1"] } else { ["0.0.0.0", "127.0.0.1"] };
    let fixed = fixed.map(|text| text.parse().unwrap());
    let of = |addresses: &mut dyn Iterator<Item = &IpAddr>| -> Vec<IpAddr> {
        addresses.copied().filter(|address| address.is_ipv6() == is_v6).collect()
    };
    let (own, all) = (of(&mut host.own[who].iter()), of(&mut host.own.iter().flatten()));
    match random.u8(..8) {
        0 | 1 => fixed[random.usize(..2)],
        2..=4 if !own.is_empty() => own[0],
        _ => all[random.usize(..all.len())],
    }
}

/// An address with a port, as commands have it.
pub fn at(address: impl ToString, port: u16) -> String {
    let address = address.to_string();
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}
