//! First packets of conversations, byte by byte.

use std::net::IpAddr;

use bulkhead_policy::reference::Probe;

/// A bare IP packet that a probe stands for: TCP SYN or a UDP datagram.
pub fn packet(probe: &Probe) -> Vec<u8> {
    let mut payload = [4000_u16.to_be_bytes(), probe.port.to_be_bytes()].concat();
    match probe.protocol {
        6 => payload.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]),
        17 => payload.extend([0, 8, 0, 0]),
        other => panic!("protocol {other}"),
    }
    let length = payload.len() as u16;
    let mut packet = match (probe.source, probe.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, probe.protocol, 0, 0];
            header[2..4].copy_from_slice(&(20 + length).to_be_bytes());
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, probe.protocol, 64];
            header[4..6].copy_from_slice(&length.to_be_bytes());
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        _ => panic!("two families"),
    };
    packet.extend(payload);
    packet
}

/// The same as `lo` has it.
pub fn frame(packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&[0; 12][..], &kind, packet].concat()
}
