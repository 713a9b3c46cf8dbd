//! Reasons that need tables which the compiler never makes.

use bulkhead_abi::{BLOCK_SLOTS, BUCKET_PLACES, CELL_ALLOW, Cell, HostBucket, Leaf, MAX_EXPIRY_CHAIN};
use bulkhead_engine::Reason;
use bulkhead_engine::host_table::{Buckets as _, BucketsMut as _, HostTable};
use bulkhead_policy::compile::Program;
use bulkhead_testkit::packets::build::{Ip, tcp};

use crate::hooks;
use crate::steps::{Scene, Stage, Step};
use crate::world::{Place, WEB, program};

/// Plays them on every hook; returns the reasons.
pub fn play() -> Vec<Reason> {
    let mut reached = Vec::new();
    let failed = Reason::LookupFailed;
    for (broken, reason, v4) in [
        (broken_trie(|trie| trie[100][64] = Leaf::block(1_000_000)), failed, true),
        (broken_trie(|trie| last_block(trie)[2] = Leaf::block(256)), failed, true),
        (broken_trie(|trie| last_block(trie)[2] = Leaf::host_table(Leaf(0))), failed, true),
        (full(), Reason::NotLocal, true),
        (full(), Reason::NotLocal, false),
        (long_chain(), Reason::ExpiryChain, true),
    ] {
        for (hook, kind) in hooks() {
            let place = Place::new(hook.direction(), v4);
            let packet = Ip::new(place.from, place.to, 6, tcp((50_000, WEB), 2, &[]));
            let steps = vec![Step::forth(&packet, reason)];
            let scene = Scene { name: "broken tables", start: None, steps };
            reached.extend(Stage::new(&broken, kind, false).play(hook, &place, &scene));
        }
    }
    reached
}

/// A trie that names a block that is not there, or something else where only leaves can be.
fn broken_trie(spoil: fn(&mut Vec<[Leaf; BLOCK_SLOTS]>)) -> Program {
    let mut compiled = program();
    spoil(&mut compiled.tables.trie);
    compiled
}

/// The block of 100.64.0.0/24.
fn last_block(trie: &mut [[Leaf; BLOCK_SLOTS]]) -> &mut [Leaf; BLOCK_SLOTS] {
    let middle = trie[100][64].as_block().expect("a middle block") as usize;
    let last = trie[middle][0].as_block().expect("a last block") as usize;
    &mut trie[last]
}

/// An host table that is full of others, and an IPv4 network that lies in it: nobody is the node.
fn full() -> Program {
    let mut compiled = program();
    let broken = &mut compiled.tables;
    broken.trie[100][64] = Leaf::host_table(Leaf(0));
    // So large that it is not made anew for spare room.
    let many = (0..1000).map(|index| ([index, 0, 0, 0], Leaf(0)));
    broken.hosts = HostTable::new(many).expect("room");
    for bucket in 0..broken.hosts.count() {
        for place in 0..BUCKET_PLACES {
            broken.hosts.publish_leaf(bucket, place, HostBucket::PRESENT);
        }
        broken.hosts.publish_more(bucket);
    }
    compiled
}

/// Every cell expired, and each the next of itself and others: more than are walked.
fn long_chain() -> Program {
    let mut compiled = program();
    let broken = &mut compiled.tables;
    let next = broken.cells.len() as u32;
    let expired = |next| Cell { next, deadline: 1, ..Cell::new(0, CELL_ALLOW) };
    broken.cells.iter_mut().for_each(|cell| *cell = expired(next));
    broken.cells.extend((1..=MAX_EXPIRY_CHAIN + 1).map(|step| expired(next + step)));
    broken.cells.push(Cell::new(0, CELL_ALLOW));
    broken.deadlines = vec![0, 1];
    compiled
}
