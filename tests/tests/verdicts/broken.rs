//! Reasons that need tables which the compiler never makes.

use bulkhead_compiler::compile::Program;
use bulkhead_engine::Reason;
use bulkhead_engine::layout::{CELL_ALLOW, Cell, Leaf, MAX_EXPIRY_CHAIN};
use bulkhead_tests::packets::build::{Ip, tcp};

use crate::hooks;
use crate::steps::{Scene, Stage, Step};
use crate::world::{Place, WEB, program};

/// Plays them on every hook; returns the reasons.
pub fn play() -> Vec<Reason> {
    let mut reached = Vec::new();
    for (broken, reason) in [(missing_block(), Reason::LookupFailed), (long_chain(), Reason::ExpiryChain)] {
        for (hook, kind) in hooks() {
            let place = Place::new(hook.direction(), true);
            let packet = Ip::new(place.from, place.to, 6, tcp((50_000, WEB), 2, &[]));
            let steps = vec![Step::forth(&packet, reason)];
            let scene = Scene { name: "broken tables", start: None, steps };
            reached.extend(Stage::new(&broken, kind, false).play(hook, &place, &scene));
        }
    }
    reached
}

/// A trie whose root names a block that is not there.
fn missing_block() -> Program {
    let mut compiled = program();
    let broken = &mut compiled.tables;
    broken.trie[100][64] = Leaf::block(1_000_000);
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
