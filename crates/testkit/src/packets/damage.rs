//! What can be odd or wrong about a packet: in its structure, and in its bytes.

use fastrand::Rng;

use super::build::{Extension, Ip};

/// IPv4 options, good ones first: NOP, end, record route, time stamp, router alert; then loose
/// and strict source routing, a length of 0, of 1, beyond the header, and none at all.
const OPTIONS: [&[u8]; 11] = [
    &[1],
    &[0],
    &[7, 7, 4, 0, 0, 0, 0],
    &[68, 8, 5, 0, 0, 0, 0, 0],
    &[148, 4, 0, 0],
    &[131, 7, 4, 10, 0, 0, 1],
    &[137, 7, 4, 10, 0, 0, 1],
    &[7, 0],
    &[7, 1],
    &[7, 40],
    &[7],
];

/// Changes the structure: options, extension headers, fragmentation, hop limit, protocol.
pub(super) fn adorn(rng: &mut Rng, packet: &mut Ip) {
    match rng.u8(..8) {
        0 => packet.hop_limit = rng.u8(..),
        1 => packet.protocol = rng.u8(..),
        2 | 3 => fragment(rng, packet),
        _ if packet.source.is_ipv4() => {
            for _ in 0..rng.usize(1..6) {
                // Good options mostly, so that the later ones are reached.
                let bound = if rng.u8(..4) == 0 { OPTIONS.len() } else { 5 };
                packet.options.extend(OPTIONS[rng.usize(..bound)]);
            }
            packet.options.truncate(40);
        }
        _ => {
            for _ in 0..rng.usize(1..11) {
                let extension = extension(rng);
                packet.extensions.push(extension);
            }
        }
    }
}

fn extension(rng: &mut Rng) -> Extension {
    match rng.u8(..16) {
        0 => Extension::padded(0, 0),
        1 => Extension::routing(rng.u8(..5), 0),
        2 => Extension::routing(0, 1),
        3 => Extension::fragment(0, false, 9),
        4 => Extension { kind: 60, body: vec![rng.u8(..), 0, 0, 0, 0, 0, 0] },
        5 => Extension { kind: 59, body: vec![0; 7] },
        6 => Extension { kind: rng.u8(..), body: vec![0; 7] },
        _ => Extension::padded(60, rng.u8(..2)),
    }
}

fn fragment(rng: &mut Rng, packet: &mut Ip) {
    let (offset, more) = match rng.u8(..4) {
        0 => (0, true),
        1 => (rng.u16(1..40), rng.bool()),
        2 => (rng.u16(..0x2000), rng.bool()),
        _ => (0, false),
    };
    if rng.bool() {
        packet.payload.truncate(packet.payload.len() & !7);
    }
    packet.fragment = offset | if more { 0x2000 } else { 0 };
    packet.extensions.push(Extension::fragment(offset, more, rng.u32(..)));
}

/// The packet in fragments, mostly as a host makes them: sometimes one comes twice, early,
/// overlaps or is missing.
pub(super) fn split(rng: &mut Rng, whole: &Ip) -> Vec<Ip> {
    let mut whole = whole.clone();
    whole.payload.extend(vec![0; rng.usize(16..120)]);
    let id = rng.u32(..);
    let mut parts = Vec::new();
    let mut offset = 0;
    while offset < whole.payload.len() {
        let end = (offset + 8 * rng.usize(1..8)).min(whole.payload.len());
        let more = end < whole.payload.len();
        let mut part = whole.clone();
        part.payload = whole.payload[offset..end].to_vec();
        // Units of 8 bytes; seldom a wrong place.
        let units = (offset / 8) as u16 ^ u16::from(rng.u8(..24) == 0);
        part.id = id as u16;
        part.fragment = units | if more { 0x2000 } else { 0 };
        part.extensions.push(Extension::fragment(units, more, id));
        parts.push(part);
        offset = end;
    }
    let last = parts.len() - 1;
    match rng.u8(..8) {
        0 => parts.swap(rng.usize(..=last), rng.usize(..=last)),
        1 => parts.push(parts[rng.usize(..=last)].clone()),
        2 => drop(parts.remove(rng.usize(..=last))),
        _ => {}
    }
    parts
}

/// Changes bytes: cut anywhere, a field replaced, a bit turned, bytes behind the packet.
pub(super) fn corrupt(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let near = bytes.len().min(80);
    match rng.u8(..8) {
        0..3 => bytes.truncate(rng.usize(..=near)),
        3 => bytes.extend(std::iter::repeat_n(0, rng.usize(1..64))),
        4 if near > 1 => {
            // Lengths, offsets and EtherTypes are 16 bits.
            let at = rng.usize(..near - 1);
            bytes[at..at + 2].copy_from_slice(&rng.u16(..).to_be_bytes());
        }
        5 | 6 if near > 0 => bytes[rng.usize(..near)] ^= 1 << rng.u8(..8),
        _ if near > 0 => bytes[rng.usize(..near)] = rng.u8(..),
        _ => {}
    }
}
