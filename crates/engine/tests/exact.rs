//! The table of single addresses: a map, while it is written too.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_abi::{Address, BUCKET_PLACES, HostBucket, HostKey, Leaf, from_ip};
use bulkhead_engine::Reason;
use bulkhead_engine::host_table::{Buckets, BucketsMut, CHAIN, Full, HostTable, find, set};
use proptest::prelude::*;

fn v4(bits: u32) -> Address {
    from_ip(Ipv4Addr::from_bits(bits).into())
}

fn v6(bits: u128) -> Address {
    from_ip(Ipv6Addr::from_bits(bits).into())
}

fn leaf(number: u32) -> Leaf {
    Leaf::new(number % 5, number % 60_000, number.is_multiple_of(3))
}

/// Counts the buckets that look-ups read.
struct Counting<'a> {
    table: &'a HostTable,
    reads: Cell<usize>,
}

impl Buckets for Counting<'_> {
    fn count(&self) -> u32 {
        self.table.count()
    }
    fn bucket(&self, index: u32) -> Option<&HostBucket> {
        self.reads.set(self.reads.get() + 1);
        self.table.bucket(index)
    }
}

/// Buckets read for each of these addresses.
fn reads(table: &HostTable, addresses: impl Iterator<Item = Address>) -> Vec<usize> {
    let counting = Counting { table, reads: Cell::new(0) };
    addresses
        .map(|address| {
            counting.reads.set(0);
            find(&counting, &address).unwrap();
            counting.reads.get()
        })
        .collect()
}

/// Whatever bits tell addresses apart, they spread as by chance, and the first size is enough.
#[test]
fn addresses_spread() {
    const COUNT: u32 = 100_000;
    let net = 0xfd7a_115c_a1e0_u128 << 80;
    let mut sets: Vec<(String, Vec<Address>)> = Vec::new();
    let spread = |index: u32| index.wrapping_mul(0x9e37_79b1);
    sets.push(("IPv4 side by side".into(), (0..COUNT).map(|i| v4(0x6440_0000 + i)).collect()));
    sets.push(("IPv4 at random".into(), (0..COUNT).map(|i| v4(spread(i))).collect()));
    for bits in [4, 8, 12, 15] {
        sets.push((
            format!("IPv4, steps of 2^{bits}"),
            (0..COUNT).map(|i| v4(i.rotate_left(bits))).collect(),
        ));
    }
    for bits in (0..=108).step_by(4) {
        sets.push((
            format!("IPv6, steps of 2^{bits}"),
            (0..COUNT).map(|i| v6(net ^ u128::from(i) << bits)).collect(),
        ));
    }
    let both = |i: u32| v6(net ^ u128::from(i & 0x1ff) << 64 ^ u128::from(i >> 9));
    sets.push(("IPv6, hosts of networks".into(), (0..COUNT).map(both).collect()));
    let same = |i: u32| v6(u128::from(i) << 64 | u128::from(i));
    sets.push(("IPv6, both halves alike".into(), (0..COUNT).map(same).collect()));
    for (name, addresses) in sets {
        let table = HostTable::new(addresses.iter().map(|address| (*address, Leaf(1)))).unwrap();
        assert_eq!(table.len(), COUNT as usize, "{name}");
        assert_eq!(table.buckets().len(), (COUNT as usize * 5).div_ceil(9), "{name}: the first size");
        let reads = reads(&table, addresses.into_iter());
        let mean = reads.iter().sum::<usize>() as f64 / f64::from(COUNT);
        assert!(mean < 1.15, "{name}: {mean} lines a look-up");
        assert!(reads.iter().all(|reads| *reads <= CHAIN), "{name}");
    }
}

#[test]
fn a_million_addresses_take_34_mib() {
    let addresses = (0..1_000_000_u32).map(|index| (v4(index.wrapping_mul(0x9e37_79b1)), Leaf(1)));
    let table = HostTable::new(addresses).unwrap();
    assert!(size_of_val(table.buckets()) <= 34 << 20, "{}", table.buckets().len());
    let strangers = reads(&table, (0..100_000).map(|index| v6(index << 40)));
    let mean = strangers.iter().sum::<usize>() as f64 / 1e5;
    assert!(mean < 1.3, "{mean} lines for an address that is not there");
}

/// Few buckets, which stay as they are, and what look-ups say after every single store.
struct Watched {
    buckets: Vec<HostBucket>,
    others: Vec<(Address, Option<Leaf>)>,
    target: Address,
    /// What the target's look-up says, each time it changes.
    seen: Vec<Option<Leaf>>,
}

impl Watched {
    fn new(count: usize) -> Self {
        // Rubbish in empty places must never be found.
        let mut bucket = HostBucket::EMPTY;
        bucket.keys = [[7, 7]; BUCKET_PLACES];
        Self { buckets: vec![bucket; count], others: Vec::new(), target: [0; 4], seen: Vec::new() }
    }

    fn set(&mut self, address: Address, leaf: Leaf) -> Result<bool, Full> {
        self.target = address;
        self.seen = vec![find(self, &address).unwrap()];
        set(self, &address, leaf)
    }

    fn check(&mut self) {
        for (address, leaf) in &self.others {
            if *address != self.target {
                assert_eq!(find(self, address), Ok(*leaf), "{address:?} changed with {:?}", self.target);
            }
        }
        let now = find(self, &self.target).unwrap();
        if self.seen.last() != Some(&now) {
            self.seen.push(now);
        }
    }
}

impl Buckets for Watched {
    fn count(&self) -> u32 {
        self.buckets.len() as u32
    }
    fn bucket(&self, index: u32) -> Option<&HostBucket> {
        self.buckets.get(index as usize)
    }
}

impl BucketsMut for Watched {
    fn write_key(&mut self, index: u32, place: usize, key: HostKey) {
        // A word at a time: half a key is nobody's.
        for (word, value) in key.into_iter().enumerate() {
            self.buckets[index as usize].keys[place][word] = value;
            self.check();
        }
        assert_eq!(self.seen, [None], "a key without its leaf");
    }
    fn publish_leaf(&mut self, index: u32, place: usize, leaf: u32) {
        self.buckets[index as usize].leaves[place] = leaf;
        self.check();
    }
    fn publish_more(&mut self, index: u32) {
        self.buckets[index as usize].more = 1;
        self.check();
    }
}

/// Fills a small table to the last place that anybody finds, over and over.
#[test]
fn every_store_leaves_the_others_alone_and_the_last_one_publishes() {
    let (mut full, mut chained) = (0, 0);
    for round in 0..40_u32 {
        let mut table = Watched::new(4);
        let addresses: Vec<_> = (0..16).map(|index| v6(u128::from(round * 100 + index) << 33)).collect();
        table.others = addresses.iter().map(|address| (*address, None)).collect();
        table.others.push((exact_rubbish(), None));
        for (index, address) in (0..).zip(&addresses) {
            let before = table.buckets.clone();
            match table.set(*address, leaf(index)) {
                Ok(is_new) => {
                    assert!(is_new);
                    assert_eq!(table.seen, [None, Some(leaf(index))], "one change");
                    table.others[index as usize].1 = Some(leaf(index));
                    chained += u32::from(table.buckets.iter().filter(|bucket| bucket.more != 0).count() > 0);
                }
                Err(Full) => {
                    assert_eq!(table.buckets, before, "nothing was written");
                    full += 1;
                }
            }
        }
        // Cut off and back, in places that are there.
        for index in 0..16 {
            let (address, Some(leaf)) = table.others[index] else { continue };
            for wanted in [leaf.with_quarantine(true), leaf] {
                assert_eq!(table.set(address, wanted), Ok(false));
                assert_eq!(table.seen.len(), 2, "one change");
                table.others[index].1 = Some(wanted);
            }
        }
    }
    assert!(full > 40 && chained > 40, "{full} and {chained}");
}

/// The address that empty places have as their key.
fn exact_rubbish() -> Address {
    [7, 0, 7, 0]
}

/// Who was interrupted between two stores goes on where he was.
#[test]
fn what_was_interrupted_is_completed() {
    let addresses: Vec<_> = (0..12).map(|index| v4(0x0a00_0001 + index)).collect();
    let mut table = Watched::new(4);
    for address in &addresses {
        table.set(*address, leaf(1)).unwrap_or_default();
    }
    assert!(table.buckets.iter().any(|bucket| bucket.more != 0));
    table.buckets.iter_mut().for_each(|bucket| bucket.more = 0);
    for address in &addresses {
        let places = |table: &Watched| table.buckets.iter().flat_map(HostBucket::entries).count();
        let before = places(&table);
        if table.set(*address, leaf(2)).is_ok() {
            assert_eq!((places(&table), find(&table, address)), (before, Ok(Some(leaf(2)))));
        }
    }
}

#[test]
fn a_broken_table_fails() {
    let mut table = Watched::new(4);
    for bucket in &mut table.buckets {
        (bucket.leaves, bucket.more) = ([HostBucket::PRESENT; BUCKET_PLACES], 1);
    }
    assert_eq!(find(&table, &v4(1)), Ok(None), "where every bucket goes on, none is missing");
    struct Short(Watched);
    impl Buckets for Short {
        fn count(&self) -> u32 {
            1 << 20
        }
        fn bucket(&self, index: u32) -> Option<&HostBucket> {
            self.0.bucket(index)
        }
    }
    assert_eq!(find(&Short(table), &v4(1)), Err(Reason::LookupFailed), "a bucket that is not there");
}

/// Buckets at the end of one chain are in the midst of others, which go on from there.
#[test]
fn a_table_that_refuses_fails_for_nobody() {
    for world in 0..200_u64 {
        let mut state = world << 32;
        let mut random = || {
            // Knuth's MMIX generator; its upper half.
            state = u64::wrapping_add(state.wrapping_mul(0x5851_f42d_4c95_7f2d), 0x1405_7b7e_f767_814f);
            (state >> 32) as u32
        };
        let hosts = HostTable::new((0..10).map(|index| (v4(index), leaf(index)))).unwrap();
        let buckets = hosts.with_room(64).unwrap().buckets().to_vec();
        let mut table = Watched { buckets, ..Watched::new(0) };
        while table.set(v4(random() | 1 << 16), Leaf(1)) != Err(Full) {}
        for index in 0..10 {
            assert_eq!(find(&table, &v4(index)), Ok(Some(leaf(index))), "world {world}");
        }
        for _ in 0..500 {
            let stranger = u128::from(random()) << 96 | u128::from(random());
            assert_eq!(find(&table, &v6(stranger)), Ok(None), "world {world}");
        }
    }
}

#[test]
fn spare_room_is_there() {
    for (count, spare) in [(0, 0), (0, 64), (1, 64), (100, 64), (1000, 64), (3000, 1), (10, 4096)] {
        let table = HostTable::new((0..count).map(|index| (v4(index), leaf(index)))).unwrap();
        let roomy = table.with_room(spare).unwrap().into_owned();
        assert_eq!((roomy.len(), roomy.iter().count()), (count as usize, count as usize));
        let mut table = Watched { buckets: roomy.buckets().to_vec(), ..Watched::new(0) };
        for index in 0..spare as u32 {
            assert_eq!(table.set(v6(u128::from(index)), Leaf(1)), Ok(true), "{count} and {spare}: {index}");
        }
        for index in 0..count {
            assert_eq!(find(&table, &v4(index)), Ok(Some(leaf(index))));
        }
    }
}

/// More addresses of one chain than it has places: no size is enough.
#[test]
fn addresses_that_were_chosen_to_collide_are_refused() {
    // Both halves go into the sum of two multiplications, which can be turned back.
    let collide = |index: u64| {
        const A: u64 = 0xff51_afd7_ed55_8ccd;
        const B: u64 = 0xc4ce_b9fe_1a85_ec53;
        let inverse =
            |by: u64| (0..6).fold(by, |x, _| x.wrapping_mul(2_u64.wrapping_sub(by.wrapping_mul(x))));
        let mix = |word: u64| {
            let mixed = (word ^ word >> 32).wrapping_mul(A);
            mixed ^ mixed >> 29
        };
        let unmix = |mixed: u64| {
            let product = mixed ^ mixed >> 29 ^ mixed >> 58;
            let word = product.wrapping_mul(inverse(B));
            word ^ word >> 32
        };
        let low = unmix(0x1234_5678_9abc_def0_u64.wrapping_sub(mix(index).rotate_left(32)));
        [index as u32, (index >> 32) as u32, low as u32, (low >> 32) as u32]
    };
    let places = (CHAIN * BUCKET_PLACES) as u64;
    let some = HostTable::new((0..12).map(|index| (collide(index), Leaf(1)))).unwrap();
    // Four buckets, if the chain does not come back to one of them.
    assert!(reads(&some, [collide(11)].into_iter())[0] >= 4);
    let all = (0..=places).map(|index| (collide(index), Leaf(1)));
    assert_eq!(HostTable::new(all).unwrap_err(), Full);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_map(steps in prop::collection::vec((0..200_u32, any::<bool>(), 0..1000_u32), 0..300)) {
        let address = |number: u32, is_v4: bool| -> IpAddr {
            let v6 = || Ipv6Addr::from_bits(u128::from(number) << (number % 97));
            if is_v4 { Ipv4Addr::from_bits(number.rotate_left(number % 31)).into() } else { v6().into() }
        };
        let (mut table, mut map) = (HostTable::default(), HashMap::new());
        for (number, is_v4, value) in &steps {
            let address = from_ip(address(*number, *is_v4));
            table.set(&address, leaf(*value)).unwrap();
            map.insert(address, leaf(*value));
            prop_assert_eq!(table.len(), map.len());
        }
        for number in 0..200 {
            for is_v4 in [false, true] {
                let address = from_ip(address(number, is_v4));
                prop_assert_eq!(table.get(&address), map.get(&address).copied());
            }
        }
        prop_assert_eq!(table.iter().collect::<HashMap<_, _>>(), map);
    }
}
