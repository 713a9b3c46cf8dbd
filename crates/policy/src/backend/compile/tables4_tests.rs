use std::net::Ipv4Addr;

use bulkhead_abi::{BLOCK_SLOTS, Leaf, TRIE_ROOT_BLOCKS};
use proptest::prelude::*;

use super::{SPARSE, Tables4, tables4};
use crate::analysis::equivalence::Piece;

const fn leaf(class: u32) -> Leaf {
    Leaf::new(class % 7, class, class % 5 == 1)
}

fn tables(pieces: &[(u32, u32, u32)]) -> Tables4 {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|(first, last, class)| Piece { first: *first, last: *last, class: *class })
        .collect();
    tables4(&pieces, leaf, usize::MAX).unwrap()
}

/// The engine's walk, told anew.
fn look_up(tables: &Tables4, address: u32) -> Leaf {
    let [a, b, c, d] = address.to_be_bytes();
    let mut entry = tables.trie[usize::from(a)][usize::from(b)];
    for byte in [c, d] {
        let Some(block) = entry.as_block() else { break };
        entry = tables.trie[block as usize][usize::from(byte)];
    }
    let Some(other) = entry.as_host_table() else {
        assert!(entry.is_leaf(), "{}", Ipv4Addr::from(address));
        return entry;
    };
    let held = tables.hosts.iter().find(|(held, _)| *held == address);
    held.map_or(other, |(_, leaf)| *leaf)
}

fn wanted(pieces: &[(u32, u32, u32)], address: u32) -> Leaf {
    let piece = pieces.iter().find(|(first, last, _)| *first <= address && address <= *last);
    piece.map_or(Leaf(0), |(_, _, class)| leaf(*class))
}

fn check(pieces: &[(u32, u32, u32)]) -> Tables4 {
    let tables = tables(pieces);
    let ends = pieces.iter().flat_map(|(first, last, _)| [*first, *last]);
    let near =
        ends.flat_map(|end| [end.saturating_sub(1), end, end.saturating_add(1), end ^ 0x100, end ^ 0x1_0000]);
    for address in near.chain([0, u32::MAX, 1 << 31]) {
        assert_eq!(look_up(&tables, address), wanted(pieces, address), "{}", Ipv4Addr::from(address));
    }
    let mut hosts: Vec<u32> = tables.hosts.iter().map(|(address, _)| *address).collect();
    hosts.dedup();
    assert_eq!(hosts.len(), tables.hosts.len(), "each once, in order");
    assert!(hosts.is_sorted());
    tables
}

const ROOT: usize = TRIE_ROOT_BLOCKS as usize;

/// So many hosts of one /24, every third address.
fn hosts(base: u32, count: usize) -> Vec<(u32, u32, u32)> {
    (0..count as u32).map(|host| (base + 3 * host, base + 3 * host, 1 + host)).collect()
}

#[test]
fn a_network_is_sparse_up_to_so_many_addresses() {
    for count in 1..SPARSE + 3 {
        let tables = check(&hosts(0x0a01_0200, count));
        let is_sparse = count <= SPARSE;
        let wanted = if is_sparse { (ROOT, count) } else { (ROOT + 2, 0) };
        assert_eq!((tables.trie.len(), tables.hosts.len()), wanted, "{count}");
        if is_sparse {
            assert_eq!(tables.trie[10][1], Leaf::host_table(Leaf(0)), "at the root");
        }
    }
}

#[test]
fn what_lies_around_may_have_a_leaf_and_holes_count() {
    // A /24 of one leaf, with a host and a hole; all around is unknown.
    let net = 0x0a01_0200;
    let tables =
        check(&[(net, net + 6, 9), (net + 7, net + 7, 2), (net + 8, net + 99, 9), (net + 101, net + 255, 9)]);
    assert_eq!((tables.trie.len(), tables.hosts.len()), (ROOT + 1, 2));
    // The whole /16 has it: the root sends to the host table by itself.
    let tables = check(&[(0x0a01_0000, net + 6, 9), (net + 7, net + 7, 2), (net + 8, 0x0a01_ffff, 9)]);
    assert_eq!((tables.trie.len(), tables.hosts.len()), (ROOT, 1));
    assert_eq!(tables.trie[10][1], Leaf::host_table(leaf(9)));
    // Beginning and end of the address space.
    let tables = check(&[(0, 0, 1), (1, 255, 2), (u32::MAX - 1, u32::MAX - 1, 3), (u32::MAX, u32::MAX, 4)]);
    assert_eq!((tables.trie.len(), tables.hosts.len()), (ROOT + 1, 3));
    check(&[(0, u32::MAX, 3)]);
    check(&[(0, 77, 3), (78, u32::MAX - 9, 4)]);
}

#[test]
fn networks_that_are_full_beside_ones_that_are_not() {
    let mut pieces = hosts(0x0a01_0200, SPARSE + 1);
    pieces.extend(hosts(0x0a01_0900, 2));
    pieces.push((0x0a01_1000, 0x0a01_12ff, 5));
    pieces.extend(hosts(0x0a02_0000, 1));
    let tables = check(&pieces);
    assert_eq!((tables.trie.len(), tables.hosts.len()), (ROOT + 2, 3));
}

#[test]
fn the_limit_is_of_blocks() {
    let pieces: Vec<_> = hosts(0x0a01_0200, SPARSE + 1);
    let pieces: Vec<_> =
        pieces.into_iter().map(|(first, last, class)| Piece { first, last, class }).collect();
    assert!(tables4(&pieces, leaf, ROOT + 2).is_some());
    assert!(tables4(&pieces, leaf, ROOT + 1).is_none());
}

/// A million addresses at random take little wherever they lie: most where a /24 has about as many
/// as are sparse.
#[test]
fn a_million_addresses_take_little_however_far_apart_they_lie() {
    const COUNT: u32 = 1_000_000;
    for (bits, most) in [(32, 36), (26, 40), (25, 68), (24, 66), (22, 18)] {
        let mask = u32::MAX >> (32 - bits);
        let scatter = |index: u32| {
            let once = index.wrapping_mul(0x9e37_79b1) & mask;
            (once ^ once >> (bits / 2)).wrapping_mul(0x9e37_79b1) & mask
        };
        let mut addresses: Vec<u32> = (0..COUNT).map(scatter).collect();
        addresses.sort_unstable();
        let pieces: Vec<_> =
            addresses.into_iter().map(|at| Piece { first: at, last: at, class: 1 + at % 5 }).collect();
        let tables = tables4(&pieces, leaf, usize::MAX).unwrap();
        let bytes = tables.trie.len() * 1024 + tables.hosts.len() * 36;
        assert!(bytes <= most << 20, "{bits} bits: {bytes} bytes, {} blocks", tables.trie.len());
    }
}

/// Gaps and lengths, and classes: networks that are sparse, dense, uniform, and across borders.
fn pieces() -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
    let gap = prop_oneof![4 => 0..3_u32, 3 => 0..200_u32, 1 => 0..0x3_0000_u32];
    let length = prop_oneof![6 => Just(1_u32), 2 => 1..300_u32, 1 => 1..0x2_0000_u32];
    let start = prop_oneof![Just(0_u32), Just(0x0a01_0000), Just(0xffff_0000)];
    (start, prop::collection::vec((gap, length, 1..4_u32), 0..60)).prop_map(|(start, parts)| {
        let (mut at, mut pieces) = (Some(start), Vec::new());
        for (gap, length, class) in parts {
            let Some(first) = at.and_then(|at| at.checked_add(gap)) else { break };
            let last = first.saturating_add(length - 1);
            pieces.push((first, last, class));
            at = last.checked_add(1);
        }
        pieces
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_address_has_the_leaf_of_its_piece(pieces in pieces(), more in prop::collection::vec(any::<u32>(), 20)) {
        let tables = check(&pieces);
        for address in more {
            let address = pieces.first().map_or(0, |piece| piece.0).wrapping_add(address % 0x4_0000);
            prop_assert_eq!(look_up(&tables, address), wanted(&pieces, address));
        }
        // No block that the host table could have spared.
        for block in &tables.trie[ROOT..] {
            let most = block.iter().map(|leaf| block.iter().filter(|other| *other == leaf).count()).max();
            prop_assert!(most < Some(BLOCK_SLOTS - SPARSE) || is_middle(&tables, block));
        }
    }
}

/// Whether the root names a block.
fn is_middle(tables: &Tables4, block: &[Leaf; BLOCK_SLOTS]) -> bool {
    let named = tables.trie[..ROOT].iter().flatten().filter_map(|entry| entry.as_block());
    named.into_iter().any(|index| std::ptr::eq(&tables.trie[index as usize], block))
}
