//! Writes the first inputs of the corpora: conversations as the packet tests make them, and
//! the policies and inventories that ship. `cargo run -p bulkhead-fuzz --example seeds`
#![allow(clippy::unwrap_used, reason = "a tool for the corpus's maker")]

use std::fs;
use std::path::Path;

use bulkhead_abi::Direction;
use bulkhead_fuzz::parser::{AUDIT, EGRESS, ETHERNET};
use bulkhead_fuzz::world::{INVENTORY, NODE, POLICY};
use bulkhead_testkit::packets::{Generator, World};

const INPUTS: u64 = 12;
const PACKETS: usize = 40;

fn main() {
    let world = World::new(POLICY.into(), INVENTORY.into(), NODE);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for seed in 0..INPUTS {
        let interface = [0, ETHERNET, 0, ETHERNET | AUDIT][(seed % 4) as usize];
        let mut input = vec![interface];
        let mut generator = Generator::new(&world, seed, interface & ETHERNET != 0);
        for index in 0..PACKETS {
            let frame = generator.next_frame();
            let Ok(length) = u8::try_from(frame.bytes.len()) else { continue };
            let direction = if frame.direction == Direction::Egress { EGRESS } else { 0 };
            input.extend([direction | u8::from(index % 8 == 0) << 1, length]);
            input.extend(frame.bytes);
        }
        fs::write(here.join(format!("corpus/parser/conversations-{seed}")), input).unwrap();
    }
    for directory in fs::read_dir(here.join("../policies")).unwrap() {
        let directory = directory.unwrap();
        let name = directory.file_name().into_string().unwrap();
        for (file, target) in [("policy.hujson", "policy"), ("inventory.json", "inventory")] {
            fs::copy(directory.path().join(file), here.join(format!("corpus/{target}/{name}"))).unwrap();
        }
    }
}
