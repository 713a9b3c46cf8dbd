//! Names of IP protocols: one list for policies, events, `explain`, `compile` and `diff`.

/// Protocols by name: IANA's keywords in small letters, but `ospf` for OSPFIGP. Of two names of one number the
/// first is the one that is shown; the others are read as well.
pub const PROTOCOLS: [(&str, u8); 18] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipv4", 4),
    ("ip-in-ip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("sctp", 132),
    ("fc", 133),
    ("ospf", 89),
    ("vrrp", 112),
    ("pim", 103),
];

/// The name of an IP protocol number; none if it has no usual one.
#[must_use]
pub fn protocol_name(number: u8) -> Option<&'static str> {
    PROTOCOLS.iter().find(|(_, of)| *of == number).map(|(name, _)| *name)
}

/// The IP protocol number of a name.
#[must_use]
pub fn protocol_number(name: &str) -> Option<u8> {
    PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::{protocol_name, protocol_number};

    #[test]
    fn a_name_that_is_shown_is_read_as_the_same_number() {
        let named = (0..=u8::MAX).filter_map(|number| Some((number, protocol_name(number)?)));
        assert_eq!(named.clone().count(), 16);
        assert!(named.clone().all(|(number, name)| protocol_number(name) == Some(number)));
        assert_eq!((protocol_name(58), protocol_number("icmpv6")), (Some("ipv6-icmp"), Some(58)));
    }
}
