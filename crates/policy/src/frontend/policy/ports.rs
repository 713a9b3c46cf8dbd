//! Ports and protocols as written.

use super::selector::Malformed;
use crate::frontend::inventory::SPIFFE_SCHEME;
use crate::interval::Intervals;
use crate::{Dialect, service, suggest};

/// Splits `SELECTOR:PORTS` at its last colon. IPv6 may stand in brackets.
pub(super) fn split(destination: &str) -> Result<(&str, &str), Malformed> {
    const HELP: &str = "a destination is SELECTOR:PORTS, for instance tag:web:443 or tag:web:*";
    // Of a SPIFFE ID the first colon is of its scheme.
    let from = if destination.starts_with(SPIFFE_SCHEME) { SPIFFE_SCHEME.len() } else { 0 };
    let parts =
        destination[from..].rfind(':').map(|at| (&destination[..from + at], &destination[from + at + 1..]));
    match parts {
        None => Err(Malformed::new(format!("\"{destination}\" has no ports")).help(HELP)),
        Some(("", _)) => Err(Malformed::new(format!("\"{destination}\" names nobody")).help(HELP)),
        Some((_, "")) => Err(Malformed::new(format!("\"{destination}\" ends before its ports")).help(HELP)),
        Some((selector, _)) if selector.starts_with('[') && !selector.contains(']') => {
            Err(Malformed::new(format!("\"{destination}\" has no ports"))
                .help("write [ADDRESS]:PORTS, for instance [fd7a::1]:443"))
        }
        Some(parts) => Ok(parts),
    }
}

/// Ports: `*`, or a list of ports and ranges.
pub(super) fn parse(text: &str, dialect: Dialect) -> Result<Intervals<u16>, Malformed> {
    if text == "*" {
        return Ok(Intervals::all());
    }
    text.split(',').map(|part| range(part.trim(), dialect)).collect::<Result<_, _>>().map(Intervals::new)
}

fn range(part: &str, dialect: Dialect) -> Result<(u16, u16), Malformed> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let first = number(part, first.trim(), "first")?;
    let last = number(part, last.trim(), "last")?;
    if last < first {
        return Err(Malformed::new(format!("port range \"{part}\": invalid range: {last} is below {first}"))
            .help(format!("write {last}-{first}")));
    }
    if first == 0 && last < u16::MAX && dialect == Dialect::Tailscale {
        let message = format!("port range \"{part}\": first port must be >0, or use '*' for wildcard");
        return Err(Malformed::new(message));
    }
    Ok((first, last))
}

fn number(part: &str, digits: &str, which: &str) -> Result<u16, Malformed> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed::new(format!("port range \"{part}\": invalid {which} integer"))
            .help("ports are numbers, lists and ranges: 22, 80,443, 8000-8080, or * for all"));
    }
    digits.parse().map_err(|_| {
        Malformed::new(format!("port range \"{part}\": invalid {which} integer: {digits} is above 65535"))
    })
}

/// A protocol: a name or a number from 1 to 255. `extended` knows more names than Tailscale does.
pub(super) fn protocol(text: &str, extended: bool) -> Result<u8, Malformed> {
    if let Some(number) = service::by_name(&text.to_ascii_lowercase(), extended) {
        return Ok(number);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let well_formed = !text.starts_with('0');
        return text.parse().ok().filter(|_| well_formed).ok_or_else(|| {
            Malformed::new(format!("invalid protocol number \"{text}\""))
                .help("numbers are 1 to 255, without leading zeros")
        });
    }
    Err(Malformed {
        message: format!("unknown protocol \"{text}\""),
        help: suggest::did_you_mean(text, service::names()).or_else(|| {
            Some(format!("a number, or one of {}", service::names().collect::<Vec<_>>().join(", ")))
        }),
    })
}

/// The service that a grant's `ip` entry names: `*`, `PORTS`, or `PROTOCOL:PORTS`.
pub(super) fn grant(text: &str, dialect: Dialect) -> Result<(Option<u8>, Intervals<u16>), Malformed> {
    match text.split_once(':') {
        None => Ok((None, parse(text, dialect)?)),
        Some(("*", ports)) => Ok((None, parse(ports, dialect)?)),
        Some((name, ports)) => {
            let protocol = protocol(name, dialect == Dialect::Bulkhead)?;
            let ports = parse(ports, dialect)?;
            portless(Some(protocol), &ports)?;
            Ok((Some(protocol), ports))
        }
    }
}

/// Refuses particular ports for a protocol without ports.
pub(super) fn portless(protocol: Option<u8>, ports: &Intervals<u16>) -> Result<(), Malformed> {
    match protocol {
        Some(number) if !service::has_ports(number) && ports.as_slice() != [(0, u16::MAX)] => {
            let name = service::name_of(number);
            Err(Malformed::new(format!("protocol \"{name}\" has no ports"))
                .help("only * may stand for its ports"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_lists_of_ranges() {
        let parse = |text| parse(text, Dialect::Bulkhead);
        assert_eq!(parse("22,80-443, 8080").unwrap().as_slice(), [(22, 22), (80, 443), (8080, 8080)]);
        assert_eq!(parse("*").unwrap(), Intervals::all());
        for bad in ["", "ssh", "80-", "-80", "443-80", "65536", "80,,81", "+80", "0x50", "1-2-3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("ssh").unwrap_err().message, "port range \"ssh\": invalid first integer");
    }

    #[test]
    fn tailscale_has_no_port_0() {
        for text in ["0", "0-79", "22,0"] {
            assert!(parse(text, Dialect::Bulkhead).is_ok(), "{text}");
            let message = parse(text, Dialect::Tailscale).unwrap_err().message;
            assert!(message.ends_with("first port must be >0, or use '*' for wildcard"), "{message}");
        }
        assert!(parse("*", Dialect::Tailscale).is_ok() && parse("0-65535", Dialect::Tailscale).is_ok());
    }

    #[test]
    fn destinations_split_at_the_last_colon() {
        assert_eq!(split("tag:a:80").unwrap(), ("tag:a", "80"));
        assert_eq!(split("[fd7a::1]:80").unwrap(), ("[fd7a::1]", "80"));
        assert_eq!(split("fd7a::/48:*").unwrap(), ("fd7a::/48", "*"));
        assert_eq!(split("spiffe://a/b:8080").unwrap(), ("spiffe://a/b", "8080"));
        assert_eq!(split("spiffe://a/b/*:*").unwrap(), ("spiffe://a/b/*", "*"));
        for bad in ["web", ":80", "web:", "[fd7a::1", "spiffe://a/b", "spiffe://a/b:"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn protocols_by_name_and_number() {
        assert_eq!(protocol("tcp", false).unwrap(), 6);
        assert_eq!(protocol("132", false).unwrap(), 132);
        assert_eq!(protocol("ospf", true).unwrap(), 89);
        for bad in ["", "0", "06", "256", "tpc"] {
            assert!(protocol(bad, true).is_err(), "{bad}");
        }
        assert!(protocol("ospf", false).is_err());
        assert_eq!(protocol("tpc", true).unwrap_err().help.as_deref(), Some("did you mean \"tcp\"?"));
    }

    #[test]
    fn grants_name_services() {
        let grant = |text| grant(text, Dialect::Bulkhead);
        assert_eq!(grant("*").unwrap(), (None, Intervals::all()));
        assert_eq!(grant("tcp:80").unwrap(), (Some(6), Intervals::new(vec![(80, 80)])));
        assert!(grant("icmp:80").is_err() && grant("icmp:*").is_ok());
    }
}
