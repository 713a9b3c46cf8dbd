//! What passes on underlay interfaces: `outbound`, `presets`, and WireGuard's own transport there.

use std::ops::RangeInclusive;

use bulkhead_policy::diagnostic::Location;
use bulkhead_policy::resolve::{self, PeerPorts, Preset, UsedPreset};
use bulkhead_policy::service::{ICMP, TCP, UDP};
use bulkhead_policy::source::{Source, Span};
use serde::Deserialize;
use toml::Spanned;

use super::Role;
use super::file::{PORT, at, bounded, ports, prefixes};
use crate::exit::Usage;

/// WireGuard's transport on an exchange or underlay interface.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireGuard {
    port: Spanned<i64>,
    peers: Vec<Spanned<String>>,
    peer_ports: Option<Spanned<Ports>>,
}

/// The peers' ports: a list, or a word.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a list of ports, or \"any\"")]
enum Ports {
    // Without places of their own: what is untagged has none.
    Of(Vec<i64>),
    Word(String),
}

/// Flows that the node may begin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outbound {
    proto: Spanned<String>,
    to: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    ports: Option<Spanned<Vec<Spanned<i64>>>>,
}

/// Keys of an interface that are about its role.
#[derive(Debug)]
pub(super) struct Section {
    pub role: Role,
    pub wireguard: Option<Spanned<WireGuard>>,
    pub outbound: Option<Spanned<Vec<Spanned<Outbound>>>>,
    pub presets: Option<Spanned<Vec<Spanned<String>>>>,
}

/// What is read of them.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub wireguard: Option<resolve::WireGuard>,
    pub outbound: Vec<resolve::Outbound>,
    pub presets: Vec<UsedPreset>,
}

impl Section {
    pub fn read(self, source: &Source) -> Result<Read, Usage> {
        let Self { role, wireguard, outbound, presets } = self;
        if let Some(wireguard) = wireguard.as_ref().filter(|_| role == Role::Overlay) {
            let message = "wireguard: only on interfaces with role = \"exchange\" or \"underlay\"; remove it, or add the role";
            return Err(at(source, wireguard.span().start, message));
        }
        let of_underlay = [
            ("outbound", outbound.as_ref().map(Spanned::span)),
            ("presets", presets.as_ref().map(Spanned::span)),
        ];
        for (key, span) in of_underlay {
            if let Some(span) = span.filter(|_| role != Role::Underlay) {
                let message =
                    format!("{key}: only on interfaces with role = \"underlay\"; remove it, or add the role");
                return Err(at(source, span.start, &message));
            }
        }
        let wireguard = wireguard.map(|wireguard| read_wireguard(source, wireguard)).transpose()?;
        let outbound = outbound.map(Spanned::into_inner).unwrap_or_default().into_iter();
        let outbound = outbound.map(|entry| read_outbound(source, entry)).collect::<Result<_, _>>()?;
        let mut used: Vec<UsedPreset> = Vec::new();
        for name in presets.map(Spanned::into_inner).unwrap_or_default() {
            let start = name.span().start;
            let preset = match &**name.get_ref() {
                "tailscale" => Preset::Tailscale,
                other => {
                    let message = format!(
                        "presets: there is none of the name '{other}'; \"tailscale\" is one, and `outbound` names flows one by one"
                    );
                    return Err(at(source, start, &message));
                }
            };
            if used.iter().any(|known| known.preset == preset) {
                return Err(at(
                    source,
                    start,
                    &format!("presets: \"{}\" is there twice; remove one of them", preset.name()),
                ));
            }
            used.push(UsedPreset { preset, location: Some(place(source, name.span())) });
        }
        Ok(Read { wireguard, outbound, presets: used })
    }
}

fn place(source: &Source, span: std::ops::Range<usize>) -> Location {
    Location::new(source, Span { start: span.start, end: span.end })
}

fn read_wireguard(source: &Source, wireguard: Spanned<WireGuard>) -> Result<resolve::WireGuard, Usage> {
    let span = wireguard.span();
    let WireGuard { port, peers, peer_ports } = wireguard.into_inner();
    let start = peer_ports.as_ref().map_or(0, |ports| ports.span().start);
    let peer_ports = match peer_ports.map(Spanned::into_inner) {
        None => PeerPorts::Same,
        Some(Ports::Of(list)) if list.is_empty() => PeerPorts::Same,
        Some(Ports::Of(list)) => {
            let port = |port: &i64| {
                let fits = PORT.contains(port).then(|| u16::try_from(*port).ok()).flatten();
                fits.ok_or_else(|| {
                    let (first, last) = (PORT.start(), PORT.end());
                    at(source, start, &format!("peer_ports: {port} is not between {first} and {last}"))
                })
            };
            PeerPorts::Of(list.iter().map(port).collect::<Result<_, _>>()?)
        }
        Some(Ports::Word(word)) if word == "any" => PeerPorts::Any,
        Some(Ports::Word(word)) => {
            let message = format!("peer_ports: '{word}' is neither a list of ports nor \"any\"");
            return Err(at(source, start, &message));
        }
    };
    Ok(resolve::WireGuard {
        port: bounded(source, "port", &port, PORT)? as u16,
        peers: prefixes(source, &peers)?,
        peer_ports,
        location: Some(place(source, span)),
    })
}

/// A list of ports that is longer is a range, which this is not for.
const PORTS: RangeInclusive<usize> = 1..=64;

fn read_outbound(source: &Source, entry: Spanned<Outbound>) -> Result<resolve::Outbound, Usage> {
    let span = entry.span();
    let Outbound { proto, to, ports: listed } = entry.into_inner();
    let protocol = match &**proto.get_ref() {
        "udp" => UDP,
        "tcp" => TCP,
        "icmp" => ICMP,
        other => {
            let message =
                format!("proto: '{other}' is not known here; \"udp\", \"tcp\" and \"icmp\" (echo) are");
            return Err(at(source, proto.span().start, &message));
        }
    };
    if to.get_ref().is_empty() {
        let message =
            "to: nobody is named; name addresses or prefixes, \"0.0.0.0/0\" and \"::/0\" for everybody";
        return Err(at(source, to.span().start, message));
    }
    let listed = match (protocol, listed) {
        (ICMP, Some(listed)) => {
            return Err(at(source, listed.span().start, "ports: icmp has none; remove them"));
        }
        (ICMP, None) => Vec::new(),
        (_, Some(listed)) if PORTS.contains(&listed.get_ref().len()) => ports(source, listed.get_ref())?,
        (_, listed) => {
            let start = listed.map_or(span.start, |listed| listed.span().start);
            let (first, last) = (PORTS.start(), PORTS.end());
            let message =
                format!("ports: {} needs {first} to {last} ports, such as ports = [53]", proto.get_ref());
            return Err(at(source, start, &message));
        }
    };
    Ok(resolve::Outbound {
        protocol,
        to: prefixes(source, to.get_ref())?,
        ports: listed,
        location: Some(place(source, span)),
    })
}

#[cfg(test)]
#[path = "underlay_tests.rs"]
mod tests;
