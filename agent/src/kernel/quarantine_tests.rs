use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_engine::layout::{BLOCK_SLOTS, Leaf, LpmKey, TRIE_ROOT_BLOCKS, from_ip};
use bulkhead_engine::memory::Tables;

use super::{Blocks, QuarantineError, quarantine_tables, set_quarantine};

/// A trie with so many spare blocks, that checks after each write what a reader would see.
struct Watched {
    blocks: Vec<[Leaf; BLOCK_SLOTS]>,
    used: usize,
    before: Vec<(Ipv4Addr, Leaf)>,
    target: Ipv4Addr,
    published: usize,
}

fn leaf_of(blocks: &[[Leaf; BLOCK_SLOTS]], address: Ipv4Addr) -> Leaf {
    let [a, b, c, d] = address.octets();
    let mut entry = blocks[usize::from(a)][usize::from(b)];
    for byte in [c, d] {
        let Some(block) = entry.as_block() else { return entry };
        entry = blocks[block as usize][usize::from(byte)];
    }
    entry
}

impl Watched {
    fn new(blocks: Vec<[Leaf; BLOCK_SLOTS]>, spare: usize, target: Ipv4Addr) -> Self {
        let [a, b, c, d] = target.octets();
        let neighbours = [
            [a, b, c, d ^ 1],
            [a, b, c ^ 1, d],
            [a, b ^ 1, c, d],
            [a ^ 1, b, c, d],
            [a, b, c, 0],
            [a, b, 255, 255],
        ];
        let before = neighbours.map(|n| (Ipv4Addr::from(n), leaf_of(&blocks, Ipv4Addr::from(n))));
        let used = blocks.len();
        let mut blocks = blocks;
        // Rubbish in spare blocks must never be seen.
        blocks.resize(used + spare, [Leaf(0xdead); BLOCK_SLOTS]);
        Self {
            blocks,
            used,
            before: before.into_iter().filter(|(n, _)| *n != target).collect(),
            target,
            published: 0,
        }
    }

    fn check(&self) {
        for (address, leaf) in &self.before {
            assert_eq!(leaf_of(&self.blocks, *address), *leaf, "{address} changed with {}", self.target);
        }
        let target = leaf_of(&self.blocks, self.target);
        assert_ne!(target.with_quarantine(false), Leaf(0xdead), "a block was named before it was whole");
    }
}

impl Blocks for Watched {
    fn load(&self, block: u32, slot: u8) -> Option<Leaf> {
        self.blocks.load(block, slot)
    }
    fn publish(&mut self, block: u32, slot: u8, leaf: Leaf) {
        self.blocks.publish(block, slot, leaf);
        self.published += 1;
        self.check();
    }
    fn take(&mut self, count: u32) -> Option<u32> {
        let first = self.used;
        self.used = Some(first + count as usize).filter(|end| *end <= self.blocks.len())?;
        Some(first as u32)
    }
    fn write(&mut self, block: u32, leaves: &[Leaf; BLOCK_SLOTS]) {
        self.blocks.write(block, leaves);
        self.check();
    }
}

/// 10.0.0.0/8 is one class, 10.1.0.0/16 another, 10.1.2.0/24 a third, 10.1.2.3 a fourth.
fn nested() -> Vec<[Leaf; BLOCK_SLOTS]> {
    let mut blocks = vec![[Leaf(0); BLOCK_SLOTS]; TRIE_ROOT_BLOCKS as usize];
    blocks[10] = [Leaf::new(0, 1, false); BLOCK_SLOTS];
    let mut second = [Leaf::new(0, 2, false); BLOCK_SLOTS];
    let mut third = [Leaf::new(0, 3, false); BLOCK_SLOTS];
    third[3] = Leaf::new(1, 4, true);
    second[2] = Leaf::block(257);
    blocks[10][1] = Leaf::block(256);
    blocks.extend([second, third]);
    blocks
}

#[test]
fn one_store_cuts_one_address_off_and_one_restores_it() {
    for (address, blocks_needed) in [
        ("10.1.2.3", 0),
        ("10.1.2.4", 0),
        ("10.1.3.4", 1),
        ("10.1.2.0", 0),
        ("10.9.9.9", 2),
        ("192.0.2.1", 2),
        ("255.255.255.255", 2),
        ("0.0.0.0", 2),
    ] {
        let address: Ipv4Addr = address.parse().unwrap();
        let plain = leaf_of(&nested(), address);
        let mut trie = Watched::new(nested(), blocks_needed, address);
        set_quarantine(&mut trie, address, true).unwrap();
        assert_eq!(leaf_of(&trie.blocks, address), plain.with_quarantine(true), "{address}");
        assert_eq!((trie.published, trie.used), (1, nested().len() + blocks_needed), "{address}");
        // Again and back: no block is needed any more.
        set_quarantine(&mut trie, address, true).unwrap();
        assert_eq!(trie.published, 1);
        set_quarantine(&mut trie, address, false).unwrap();
        assert_eq!(leaf_of(&trie.blocks, address), plain);
        set_quarantine(&mut trie, address, true).unwrap();
        assert_eq!((trie.published, trie.used), (3, nested().len() + blocks_needed), "{address}");
    }
}

#[test]
fn without_spare_blocks_nothing_is_written() {
    let address = "10.9.9.9".parse().unwrap();
    let mut trie = Watched::new(nested(), 1, address);
    let before = trie.blocks.clone();
    assert!(matches!(set_quarantine(&mut trie, address, true), Err(QuarantineError::Full)));
    assert_eq!((trie.blocks, trie.used, trie.published), (before, nested().len(), 0));
}

#[test]
fn a_broken_trie_is_said_to_be_so() {
    let mut blocks = nested();
    blocks[11][0] = Leaf::block(9999);
    let broken = set_quarantine(&mut blocks, "11.0.0.1".parse().unwrap(), true);
    assert!(matches!(broken, Err(QuarantineError::Broken)));
    let mut blocks = nested();
    blocks[257][9] = Leaf::block(256);
    let broken = set_quarantine(&mut blocks, "10.1.2.9".parse().unwrap(), true);
    assert!(matches!(broken, Err(QuarantineError::Broken)));
}

#[test]
fn an_address_of_ipv6_keeps_the_class_around_it() {
    let ip = |text: &str| -> Ipv6Addr { text.parse().unwrap() };
    let words = |text: &str| from_ip(ip(text).into());
    let mut tables = Tables::deny_all();
    tables.prefixes6 = vec![
        (LpmKey { prefix: 0, address: words("::") }, Leaf::new(0, 1, false)),
        (LpmKey { prefix: 32, address: words("2001:db8::") }, Leaf::new(0, 2, false)),
        (LpmKey { prefix: 48, address: words("2001:db8:1::") }, Leaf::new(0, 3, false)),
    ];
    tables.exact6 = vec![(words("fd00::1"), Leaf::new(1, 4, true))];
    let cut: Vec<IpAddr> =
        ["2001:db8:1::7", "2001:db8:2::7", "2a00::1", "fd00::1"].map(|text| ip(text).into()).to_vec();
    quarantine_tables(&mut tables, &cut).unwrap();
    assert!(tables.exact6.is_sorted(), "the engine searches them");
    for (text, leaf) in [
        ("2001:db8:1::7", Leaf::new(0, 3, false)),
        ("2001:db8:2::7", Leaf::new(0, 2, false)),
        ("2a00::1", Leaf::new(0, 1, false)),
        ("fd00::1", Leaf::new(1, 4, true)),
    ] {
        let found = tables.exact6.iter().find(|entry| entry.0 == words(text)).unwrap();
        assert_eq!(found.1, leaf.with_quarantine(true), "{text}");
    }
    assert_eq!(tables.exact6.len(), 4);
}
