//! One address's leaf changed in tables that programs may be reading.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::net::IpAddr;

use bulkhead_abi::{
    Address, BLOCK_SLOTS, FEATURE_IPV6_LPM, Leaf, LpmKey, Settings, TRIE_ROOT_BLOCKS, from_ip,
};
use bulkhead_engine::change::{Addresses, Unchanged, change};
use bulkhead_engine::host_table::HostTable;
use bulkhead_engine::leaf_of;
use bulkhead_engine::memory::{Memory, Tables};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The engine's own look-up.
fn look_up(tables: &Tables, address: IpAddr) -> Leaf {
    let memory = Memory::new(tables, Settings { features: FEATURE_IPV6_LPM, ..Settings::UNSET });
    leaf_of(&memory, if address.is_ipv4() { 4 } else { 6 }, &from_ip(address)).unwrap()
}

const CLASSES: [Leaf; 6] = [
    Leaf::new(0, 0, false),
    Leaf::new(0, 1, false),
    Leaf::new(0, 2, false),
    Leaf::new(0, 3, false),
    Leaf::new(1, 4, true),
    Leaf::new(0, 5, false),
];

/// 10.0.0.0/8 is one class, 10.1.0.0/16 another, 10.1.2.0/24 a third, 10.1.2.3 a fourth. 10.2.0.0/16
/// and 10.1.5.0/24 lie in the host table, with 10.2.7.7 and 10.1.5.5.
fn nested() -> Tables {
    let mut tables = Tables::deny_all();
    let mut second = [CLASSES[2]; BLOCK_SLOTS];
    let mut third = [CLASSES[3]; BLOCK_SLOTS];
    third[3] = CLASSES[4];
    (second[2], second[5]) = (Leaf::block(TRIE_ROOT_BLOCKS + 1), Leaf::host_table(CLASSES[2]));
    tables.trie[10] = [CLASSES[1]; BLOCK_SLOTS];
    (tables.trie[10][1], tables.trie[10][2]) = (Leaf::block(TRIE_ROOT_BLOCKS), Leaf::host_table(CLASSES[1]));
    tables.trie.extend([second, third]);
    let prefix = |text, prefix, class: usize| (LpmKey { prefix, address: from_ip(ip(text)) }, CLASSES[class]);
    tables.prefixes6 = vec![prefix("::", 0, 1), prefix("2001:db8::", 32, 2), prefix("2001:db8:1::", 48, 3)];
    for (address, class) in [("fd00::1", 4), ("10.2.7.7", 5), ("10.1.5.5", 5)] {
        tables.hosts.set(&from_ip(ip(address)), CLASSES[class]).unwrap();
    }
    tables
}

/// Addresses of every kind, and what needs a place in the host table of its own.
const ADDRESSES: [(&str, usize, bool); 16] = [
    ("10.1.2.3", 4, false),
    ("10.1.2.4", 3, false),
    ("10.1.2.0", 3, false),
    ("10.1.3.4", 2, true),
    ("10.1.5.5", 5, false),
    ("10.1.5.6", 2, true),
    ("10.2.7.7", 5, false),
    ("10.2.7.8", 1, true),
    ("10.9.9.9", 1, true),
    ("192.0.2.1", 0, true),
    ("255.255.255.255", 0, true),
    ("0.0.0.0", 0, true),
    ("2001:db8:1::7", 3, true),
    ("2001:db8:2::7", 2, true),
    ("2a00::1", 1, true),
    ("fd00::1", 4, false),
];

/// Tables of fixed size that are looked at after each store.
struct Watched {
    tables: Tables,
    room: usize,
    target: IpAddr,
    before: Vec<(IpAddr, Leaf)>,
    seen: Vec<Leaf>,
}

impl Watched {
    fn new(tables: Tables, room: usize, target: IpAddr) -> Self {
        let mut others: Vec<IpAddr> = ADDRESSES.iter().map(|(address, ..)| ip(address)).collect();
        if let IpAddr::V4(v4) = target {
            let near = [1, 0x80, 0x100, 0x8000, 0x1_0000, 0x100_0000, 0x8000_0000];
            others.extend(near.map(|bits| IpAddr::from((v4.to_bits() ^ bits).to_be_bytes())));
        }
        others.retain(|other| *other != target);
        let before = others.into_iter().map(|other| (other, look_up(&tables, other))).collect();
        let seen = vec![look_up(&tables, target)];
        Self { tables, room, target, before, seen }
    }

    fn check(&mut self) {
        for (address, leaf) in &self.before {
            assert_eq!(look_up(&self.tables, *address), *leaf, "{address} changed with {}", self.target);
        }
        let now = look_up(&self.tables, self.target);
        if self.seen.last() != Some(&now) {
            self.seen.push(now);
        }
    }

    fn quarantine(&mut self, on: bool) -> Result<(), Unchanged> {
        self.seen = vec![look_up(&self.tables, self.target)];
        change(self, self.target, |leaf| leaf.with_quarantine(on))
    }
}

impl Addresses for Watched {
    type Error = Unchanged;

    fn entry(&self, block: u32, slot: u8) -> Option<Leaf> {
        self.tables.entry(block, slot)
    }
    fn publish(&mut self, block: u32, slot: u8, entry: Leaf) {
        self.tables.publish(block, slot, entry);
        self.check();
    }
    fn host_table(&self, address: &Address) -> Result<Option<Leaf>, Unchanged> {
        Addresses::host_table(&self.tables, address)
    }
    fn set_exact(&mut self, address: &Address, leaf: Leaf) -> Result<(), Unchanged> {
        if self.tables.hosts.get(address).is_none() {
            self.room = self.room.checked_sub(1).ok_or(Unchanged::Full)?;
        }
        self.tables.set_exact(address, leaf)?;
        self.check();
        Ok(())
    }
    fn prefix6(&self, address: &Address) -> Result<Leaf, Unchanged> {
        Addresses::prefix6(&self.tables, address)
    }
}

#[test]
fn one_store_cuts_one_address_off_and_one_restores_it() {
    for (text, class, is_new) in ADDRESSES {
        let plain = CLASSES[class];
        let mut watched = Watched::new(nested(), usize::from(is_new), ip(text));
        assert_eq!(watched.seen, [plain], "{text}");
        watched.quarantine(true).unwrap();
        assert_eq!(watched.seen, [plain, plain.with_quarantine(true)], "{text}");
        assert_eq!(watched.room, 0, "{text}");
        let before = watched.tables.clone();
        watched.quarantine(true).unwrap();
        assert_eq!(watched.tables, before, "{text}: again");
        watched.quarantine(false).unwrap();
        assert_eq!(watched.seen, [plain.with_quarantine(true), plain], "{text}");
        watched.quarantine(true).unwrap();
        assert_eq!(watched.seen, [plain, plain.with_quarantine(true)], "{text}");
        // In tables that nobody reads it comes to the same.
        let mut unread = nested();
        change(&mut unread, ip(text), |leaf| leaf.with_quarantine(true)).unwrap();
        assert_eq!(unread, watched.tables, "{text}");
        assert_eq!(unread.trie.len(), nested().trie.len(), "no block is needed");
    }
}

#[test]
fn all_of_them_together() {
    let mut tables = nested();
    for (text, ..) in ADDRESSES {
        let mut watched = Watched::new(tables, 1, ip(text));
        watched.quarantine(true).unwrap();
        tables = watched.tables;
    }
    for (text, class, _) in ADDRESSES {
        assert_eq!(look_up(&tables, ip(text)), CLASSES[class].with_quarantine(true), "{text}");
        let mut watched = Watched::new(tables, 0, ip(text));
        watched.quarantine(false).unwrap();
        tables = watched.tables;
        assert_eq!(look_up(&tables, ip(text)), CLASSES[class], "{text}");
    }
}

#[test]
fn without_room_nothing_is_written() {
    for (text, ..) in ADDRESSES.into_iter().filter(|(_, _, is_new)| *is_new) {
        let mut watched = Watched::new(nested(), 0, ip(text));
        assert_eq!(watched.quarantine(true), Err(Unchanged::Full), "{text}");
        assert_eq!(watched.tables, nested(), "{text}");
    }
}

/// A writer that ended between the host table and the trie has changed nothing, and what it left is
/// not taken for anything.
#[test]
fn what_an_interrupted_writer_left_is_not_used() {
    let (cut, other) = (ip("10.9.9.9"), ip("10.9.8.8"));
    let mut tables = nested();
    tables.hosts.set(&from_ip(cut), CLASSES[1].with_quarantine(true)).unwrap();
    assert_eq!(look_up(&tables, cut), CLASSES[1]);
    let mut watched = Watched::new(tables.clone(), 0, cut);
    watched.quarantine(true).unwrap();
    assert_eq!(watched.seen, [CLASSES[1], CLASSES[1].with_quarantine(true)]);
    let mut watched = Watched::new(tables, 1, cut);
    watched.quarantine(false).unwrap();
    let mut watched = Watched::new(watched.tables, 1, other);
    watched.quarantine(true).unwrap();
    assert_eq!(look_up(&watched.tables, cut), CLASSES[1]);
}

#[test]
fn broken_tables_are_said_to_be_so() {
    let broken = |spoil: fn(&mut Tables), address: &str| {
        let mut tables = nested();
        spoil(&mut tables);
        let before = tables.clone();
        let found = change(&mut tables, ip(address), |leaf| leaf.with_quarantine(true));
        assert_eq!((found, tables), (Err(Unchanged::Broken), before));
    };
    broken(|tables| tables.trie[11][0] = Leaf::block(9999), "11.0.0.1");
    // What is behind the last block of a way.
    broken(|tables| tables.trie[257][9] = Leaf::block(256), "10.1.2.9");
    broken(|tables| tables.trie[257][9] = Leaf::host_table(Leaf(0)), "10.1.2.9");
    // A whole network that is cut off: none was.
    broken(|tables| tables.trie[11][0] = Leaf(0).with_quarantine(true), "11.0.0.1");
}

#[test]
fn tables_that_nobody_reads_grow() {
    let mut tables = Tables::deny_all();
    for index in 0..10_000_u32 {
        let address = IpAddr::from((index.wrapping_mul(0x9e37_79b1)).to_be_bytes());
        change(&mut tables, address, |leaf| leaf.with_quarantine(true)).unwrap();
        assert!(look_up(&tables, address).quarantined());
    }
    assert_eq!((tables.hosts.len(), tables.trie.len()), (10_000, TRIE_ROOT_BLOCKS as usize));
    assert_ne!(tables.hosts, HostTable::default());
}
