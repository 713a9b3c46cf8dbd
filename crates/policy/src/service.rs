//! Protocols and ports: what a rule admits or denies once the addresses match.

use std::fmt;

use bulkhead_abi::{PROTOCOLS, port_index, protocol_name};

use crate::interval::Intervals;

/// ICMP.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMPv6.
pub const ICMPV6: u8 = 58;
/// SCTP.
pub const SCTP: u8 = 132;

/// The names that Tailscale's own policies do not have.
const OURS: [&str; 4] = ["icmpv6", "ospf", "vrrp", "pim"];

/// Names of protocols, for suggestions.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROTOCOLS.iter().map(|(name, _)| *name)
}

/// A protocol's number by name. `extended` also knows the names that Tailscale does not.
#[must_use]
pub fn by_name(name: &str, extended: bool) -> Option<u8> {
    PROTOCOLS
        .iter()
        .find(|(known, _)| *known == name && (extended || !OURS.contains(known)))
        .map(|(_, number)| *number)
}

/// A protocol's name, or its number.
#[must_use]
pub fn name_of(protocol: u8) -> String {
    protocol_name(protocol).map_or_else(|| protocol.to_string(), str::to_owned)
}

/// Whether a protocol has ports.
#[must_use]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

/// Which protocols and ports a rule is about, with the defaults of a rule without `proto`
/// already worked out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// Of TCP, UDP and SCTP, those it is about.
    pub ported: Vec<u8>,
    /// Their destination ports.
    pub ports: Intervals<u16>,
    /// Protocols without ports that it is about. For ICMP and ICMPv6 this means echo.
    pub portless: Vec<u8>,
}

impl Service {
    /// The service of a rule.
    ///
    /// Without `proto` an accept is about TCP and UDP on its ports and about echo; a deny is
    /// about echo only if its ports are all: a deny of one port must not cut off ping. SCTP
    /// has to be named.
    #[must_use]
    pub fn new(protocol: Option<u8>, ports: Intervals<u16>, deny: bool) -> Self {
        match protocol {
            None => {
                let echo = !deny || ports.as_slice() == [(0, u16::MAX)];
                let portless = if echo { vec![ICMP, ICMPV6] } else { Vec::new() };
                Self { ported: vec![TCP, UDP], ports, portless }
            }
            Some(protocol) if has_ports(protocol) => {
                Self { ported: vec![protocol], ports, portless: Vec::new() }
            }
            Some(protocol) => {
                Self { ported: Vec::new(), ports: Intervals::default(), portless: vec![protocol] }
            }
        }
    }

    /// Every protocol, on every port.
    #[must_use]
    pub fn everything() -> Self {
        let portless = (0..=u8::MAX).filter(|protocol| !has_ports(*protocol)).collect();
        Self { ported: vec![TCP, UDP, SCTP], ports: Intervals::all(), portless }
    }

    /// Whether a packet of `protocol` to `port` is meant. Protocols without ports ignore `port`.
    #[must_use]
    pub fn matches(&self, protocol: u8, port: u16) -> bool {
        self.portless.contains(&protocol) || (self.ported.contains(&protocol) && self.ports.contains(port))
    }

    /// The same as points of the port-class table's axis, [`port_index`].
    #[must_use]
    pub fn points(&self) -> Intervals<u32> {
        let ported = self.ported.iter().flat_map(|protocol| {
            let ports = self.ports.as_slice().iter();
            ports.map(|(first, last)| (port_index(*protocol, *first), port_index(*protocol, *last)))
        });
        let portless =
            self.portless.iter().map(|protocol| (port_index(*protocol, 0), port_index(*protocol, 0)));
        Intervals::new(ported.chain(portless).collect())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::everything() {
            return f.write_str("*");
        }
        let ports = self.ports.as_slice().iter().map(|(first, last)| match (first, last) {
            (0, &u16::MAX) => "*".to_string(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        });
        let ports: Vec<_> = ports.collect();
        let mut parts = Vec::new();
        if !self.ported.is_empty() {
            let protocols: Vec<_> = self.ported.iter().map(|p| name_of(*p)).collect();
            parts.push(format!("{}:{}", protocols.join("+"), ports.join(",")));
        }
        parts.extend(self.portless.iter().map(|p| name_of(*p)));
        f.write_str(&parts.join(" "))
    }
}

/// Points of the port-class table's axis in words: protocols with their ports, such as
/// `tcp:80,443`, then protocols without ports.
#[must_use]
pub fn words(points: &Intervals<u32>) -> Vec<String> {
    let mut words = Vec::new();
    for protocol in [TCP, UDP, SCTP] {
        let all = Intervals::new(vec![(port_index(protocol, 0), port_index(protocol, u16::MAX))]);
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for (first, last) in points.intersection(&all).as_slice() {
            match ranges.last_mut() {
                Some((_, end)) if *end + 1 == *first => *end = *last,
                _ => ranges.push((*first, *last)),
            }
        }
        let port = |point: u32| (point - port_index(protocol, 0)) as u16;
        let ranges = ranges.into_iter().map(|(first, last)| match (port(first), port(last)) {
            (0, u16::MAX) => "*".to_string(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        });
        let ranges: Vec<String> = ranges.collect();
        if !ranges.is_empty() {
            words.push(format!("{}:{}", name_of(protocol), ranges.join(",")));
        }
    }
    let portless = (0..=u8::MAX).filter(|protocol| !has_ports(*protocol));
    words.extend(portless.filter(|protocol| points.contains(port_index(*protocol, 0))).map(name_of));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Intervals<u16> {
        Intervals::all()
    }

    fn one(port: u16) -> Intervals<u16> {
        Intervals::new(vec![(port, port)])
    }

    #[test]
    fn without_proto_an_accept_covers_echo_and_never_sctp() {
        let service = Service::new(None, one(22), false);
        assert!(service.matches(TCP, 22) && service.matches(UDP, 22) && service.matches(ICMP, 0));
        assert!(!service.matches(TCP, 23) && !service.matches(SCTP, 22) && !service.matches(47, 0));
    }

    #[test]
    fn a_deny_of_ports_leaves_echo_alone() {
        assert!(!Service::new(None, one(22), true).matches(ICMP, 0));
        assert!(Service::new(None, all(), true).matches(ICMPV6, 0));
        assert!(!Service::new(None, all(), true).matches(SCTP, 1));
    }

    #[test]
    fn points_agree_with_matches() {
        for protocol in [None, Some(TCP), Some(SCTP), Some(ICMP), Some(47)] {
            for deny in [false, true] {
                for ports in [all(), one(0), one(65535), Intervals::new(vec![(22, 22), (80, 443)])] {
                    let service = match protocol {
                        Some(6) if deny => Service::everything(),
                        _ => Service::new(protocol, ports, deny),
                    };
                    let points = service.points();
                    for protocol in 0..=255 {
                        for port in [0, 1, 22, 23, 80, 443, 444, 65535] {
                            let inside = points.contains(port_index(protocol, port));
                            assert_eq!(
                                inside,
                                service.matches(protocol, port),
                                "{service} {protocol} {port}"
                            );
                        }
                    }
                }
            }
        }
    }
}
