//! What the program makes of a membership report that names foreign groups: byte by byte.

use std::net::IpAddr;

use bulkhead_abi::{Direction, Rate};
use bulkhead_dataplane::Kind;
use bulkhead_testkit::packets::build::{ethernet, ethertype};

use crate::kernel::{Kernel, Program, ample};
use crate::venues::{report, world};
use crate::world::Place;

/// A report of a feed's group among a hundred others, with its checksum, as a frame or a bare packet.
fn frame(kind: Kind, feed: &str, other: &str) -> Vec<u8> {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let mut groups = vec![address(other); 100];
    groups[71] = address(feed);
    let place = Place::new(Direction::Egress, groups[0].is_ipv4());
    let mut ip = report(&place, &groups);
    let mut sum = 0;
    let mut add = |bytes: &[u8]| {
        sum += bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    };
    add(&ip.payload);
    // The pseudo header (RFC 8200 section 8.1).
    if let (IpAddr::V6(source), IpAddr::V6(destination)) = (ip.source, ip.destination) {
        add(&source.octets());
        add(&destination.octets());
        add(&(ip.payload.len() as u32).to_be_bytes());
        add(&[0, 0, 0, ip.protocol]);
    }
    while sum >> 16 != 0 {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    ip.payload[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let packet = ip.bytes();
    if kind == Kind::Ethernet { ethernet(&[], ethertype(&packet), &packet) } else { packet }
}

#[test]
fn foreign_groups_are_masked_in_what_leaves() {
    let compiled = world().program;
    for kind in [Kind::BareIp, Kind::Ethernet] {
        for audit in [false, true] {
            let mut kernel = Kernel::with(&compiled.tables, kind, audit, ample(), Rate::default(), 0);
            for [feed, other, all] in [
                ["233.54.12.7", "239.255.255.250", "224.0.0.1"],
                ["ff3e:30:2001:db8::7", "ff1e::8000:ffff:9", "ff02::1"],
            ] {
                let sent = kernel.sent(Program::TcEgress, &frame(kind, feed, other));
                // Audit mode changes nothing.
                let expected = frame(kind, feed, if audit { other } else { all });
                assert_eq!(sent, expected, "{other}, {kind:?}, audit {audit}");
            }
        }
    }
}
