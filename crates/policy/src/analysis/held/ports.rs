//! (protocol, port) pairs that a table tells apart, for people and for look-ups.

use bulkhead_abi::{PORT_BLOCKS, PortSlot, protocol_name};

/// Runs of ports that are named before the rest is only counted.
const NAMED: usize = 4;

/// All entries of the table of ports that a packet can lead to.
pub(super) fn points() -> impl Iterator<Item = u32> {
    (0..PORT_BLOCKS * 256).filter(|point| protocol_of(*point).is_some())
}

/// The protocol and port of an entry of the table of ports; none if no packet leads there.
pub(super) fn protocol_of(point: u32) -> Option<(u8, u16)> {
    let protocol = match point >> 16 {
        0 => 6,
        1 => 17,
        2 => 132,
        3 => u8::try_from(point & 0xffff).ok().filter(|number| PortSlot::of(*number) == PortSlot::Other)?,
        _ => return None,
    };
    Some((protocol, if point >> 16 == 3 { 0 } else { point as u16 }))
}

/// Sorted entries as ports: `22/tcp, 80-443/tcp and 3 more`.
pub(super) fn text(points: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for point in points {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *point && *point >> 16 == *last >> 16 => *last = *point,
            _ => runs.push((*point, *point)),
        }
    }
    if runs.iter().map(|(first, last)| last - first + 1).sum::<u32>() as usize == points_count() {
        return "any port".to_owned();
    }
    let more = runs.len().saturating_sub(NAMED);
    let named: Vec<_> = runs.into_iter().take(NAMED).map(run).collect();
    let named = named.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

fn points_count() -> usize {
    points().count()
}

fn run((first, last): (u32, u32)) -> String {
    let name = |number: u8| protocol_name(number).map_or_else(|| number.to_string(), str::to_owned);
    let Some((protocol, port)) = protocol_of(first) else { return format!("entry {first}") };
    match (first >> 16, first == last) {
        (3, true) => name(protocol),
        (3, false) => format!("protocols {}-{}", first & 0xff, last & 0xff),
        (_, true) => format!("{port}/{}", name(protocol)),
        (_, false) if first & 0xffff == 0 && last & 0xffff == 0xffff => format!("any/{}", name(protocol)),
        (_, false) => format!("{port}-{}/{}", last & 0xffff, name(protocol)),
    }
}
