//! Pieces of the IPv6 axis → single addresses and prefixes.

use std::net::Ipv6Addr;

use bulkhead_abi::{Address, Leaf, LpmKey, from_ip};

use crate::address::prefixes6;
use crate::analysis::equivalence::Piece;
use crate::interval::Intervals;

/// The IPv6 tables.
pub(super) struct Tables6 {
    /// Single addresses, each once.
    pub(super) hosts: Vec<(Address, Leaf)>,
    /// Prefixes, sorted by (length, address).
    pub(super) prefixes: Vec<(LpmKey, Leaf)>,
}

/// The IPv6 tables of sorted, disjoint pieces of the axis that `sets` were cut from.
///
/// Cutting prefixes around every host in them would make hundreds of pieces a host. Instead
/// each prefix that a set is made of gets one entry, for what no longer prefix and no host in
/// it takes: a set holds either all of that or nothing of it.
pub(super) fn tables6<'a>(
    sets: impl IntoIterator<Item = &'a Intervals<u128>>,
    pieces: &[Piece<u128>],
    leaf: impl Fn(u32) -> Leaf,
) -> Tables6 {
    let wide = |set: &'a Intervals<u128>| set.as_slice().iter().filter(|(first, last)| first < last);
    let mut family: Vec<(u128, u8)> = sets
        .into_iter()
        .flat_map(|set| wide(set).flat_map(|(first, last)| prefixes6(*first, *last)))
        .collect();
    family.sort_unstable();
    family.dedup();
    let mut tables = Tables6 { hosts: Vec::new(), prefixes: Vec::new() };
    let mut written = vec![false; family.len()];
    // The prefixes around the point at hand, the shortest first.
    let mut around: Vec<usize> = Vec::new();
    let mut next = 0;
    for piece in pieces {
        let leaf = leaf(piece.class);
        if piece.first == piece.last {
            tables.hosts.push((address(piece.first), leaf));
            continue;
        }
        // A piece may lie across several prefixes, and come back to one that another is in.
        let mut at = Some(piece.first);
        while let Some(point) = at.filter(|point| *point <= piece.last) {
            while next < family.len() && family[next].0 <= point {
                around.retain(|outer| holds(family[*outer], family[next].0));
                around.push(next);
                next += 1;
            }
            around.retain(|outer| holds(family[*outer], point));
            let Some(owner) = around.last().copied() else { break };
            let (first, length) = family[owner];
            if !written[owner] && length == 128 {
                tables.hosts.push((address(first), leaf));
            } else if !written[owner] {
                tables.prefixes.push((LpmKey { prefix: length.into(), address: address(first) }, leaf));
            }
            written[owner] = true;
            let after = last(family[owner]).checked_add(1);
            let inner = family.get(next).map(|(start, _)| *start);
            at = after.map_or(inner, |after| Some(inner.map_or(after, |inner| inner.min(after))));
        }
    }
    tables.prefixes.sort_unstable_by_key(|(key, _)| (key.prefix, key.address));
    tables
}

fn last((first, length): (u128, u8)) -> u128 {
    first | u128::MAX.checked_shr(length.into()).unwrap_or(0)
}

fn holds((first, length): (u128, u8), point: u128) -> bool {
    length == 0 || (point ^ first) >> (128 - u32::from(length)) == 0
}

fn address(bits: u128) -> Address {
    from_ip(Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::equivalence::Sweep;

    /// An entry of the host table, else the longest prefix: the engine's order.
    fn look_up(tables: &Tables6, point: u128) -> Leaf {
        let hosts = tables.hosts.iter().find(|(key, _)| *key == address(point)).map(|(_, leaf)| *leaf);
        let prefixes = tables.prefixes.iter().rev();
        let found = prefixes.clone().find(|(key, _)| {
            let bytes: Vec<u8> = key.address.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let bits = u128::from_be_bytes(bytes.try_into().unwrap());
            holds((bits, key.prefix as u8), point)
        });
        hosts.or(found.map(|(_, leaf)| *leaf)).unwrap_or(Leaf(0))
    }

    #[test]
    fn ranges_with_holes_are_found_as_they_are() {
        let range = |first, last| Intervals::new(vec![(first, last)]);
        let all: Vec<Vec<Intervals<u128>>> = vec![
            vec![range(0, 63).minus(&range(2, 2)), range(1, 1), range(3, 3)],
            vec![range(0, 63), range(16, 31).minus(&range(20, 22)), range(5, 5)],
            vec![range(3, 60), range(0, 127), range(8, 15), range(9, 9)],
            vec![Intervals::all(), range(7, 40).minus(&range(8, 8)), range(u128::MAX - 5, u128::MAX)],
            vec![Intervals::all().minus(&range(3, 3))],
        ];
        for sets in all {
            let mut sweep = Sweep::new(sets.len());
            let pieces = sweep.axis(sets.iter().enumerate());
            let leaf = |class: u32| Leaf::new(class, class, false);
            let tables = tables6(&sets, &pieces, leaf);
            for point in (0..=130).chain(u128::MAX - 10..=u128::MAX) {
                let piece = pieces.iter().find(|piece| piece.first <= point && point <= piece.last);
                let wanted = piece.map_or(Leaf(0), |piece| leaf(piece.class));
                assert_eq!(look_up(&tables, point), wanted, "{point} of {sets:?}");
            }
        }
    }
}
