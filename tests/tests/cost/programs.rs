//! The programs around the one that is measured, instruction by instruction (RFC 9669).

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use crate::bpf::{self, ARRAY, PROG_ARRAY};

/// Low bits of the random number that choose an address: 131,072 of them.
pub const ADDRESSES: u32 = 1 << 17;
/// The first address of 100.64.0.0/10, in which all are.
const BASE: u32 = 0x6440_0000;
/// Size of that network.
const NETWORK: u32 = 1 << 22;
/// Bytes of the packet that are a key: IPv4 and TCP headers.
pub const KEY: u32 = 40;
/// What a program returns that passes a packet on.
pub const NEXT: i32 = -1;
/// What a program here returns if the packet is too short, or a tail call failed.
const FAILED: i32 = 3;

/// An instruction: opcode, destination and source register, offset, immediate.
const fn instruction(opcode: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    opcode as u64
        | (destination as u64) << 8
        | (source as u64) << 12
        | (offset as u16 as u64) << 16
        | (immediate as u32 as u64) << 32
}

const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const ADD_NUMBER: u8 = 0x07;
const XOR: u8 = 0xaf;
const LEFT: u8 = 0x67;
const RIGHT: u8 = 0x77;
const LOAD_32: u8 = 0x61;
const LOAD_64: u8 = 0x79;
const STORE_32: u8 = 0x63;
const STORE_64: u8 = 0x7b;
const IF_GREATER: u8 = 0x2d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// Operations on the lower half of a register.
const AND_32: u8 = 0x54;
const MULTIPLY_32: u8 = 0x24;
const ADD_32: u8 = 0x04;
const TO_BIG_ENDIAN: u8 = 0xdc;
const LOOK_UP: i32 = 1;
const TAIL_CALL: i32 = 12;
/// Offsets in `struct __sk_buff`.
const DATA: i16 = 76;
const DATA_END: i16 = 80;

/// Two instructions that load a map (`by` = 1) or the address of its value (`by` = 2).
fn load_map(destination: u8, by: u8, map: &OwnedFd) -> [u64; 2] {
    [instruction(0x18, destination, by, 0, map.as_raw_fd()), 0]
}

/// The `index`th address, in host byte order. `stride` is odd or 1, so all differ.
pub fn address(index: u32, stride: u32) -> u32 {
    BASE + (index.wrapping_mul(stride) & (NETWORK - 1))
}

/// Returns at once.
pub fn nothing() -> OwnedFd {
    bpf::load(&[instruction(MOVE_NUMBER, 0, 0, 0, NEXT), instruction(EXIT, 0, 0, 0, 0)])
}

/// Takes the packet's first bytes as a key, and looks it up if there is a map.
pub fn keyed(map: Option<&OwnedFd>) -> OwnedFd {
    let mut code = vec![
        instruction(LOAD_32, 2, 1, DATA, 0),
        instruction(LOAD_32, 3, 1, DATA_END, 0),
        instruction(MOVE, 4, 2, 0, 0),
        instruction(ADD_NUMBER, 4, 0, 0, KEY as i32),
        instruction(MOVE_NUMBER, 0, 0, 0, FAILED),
        instruction(IF_GREATER, 4, 3, 2 * (KEY / 8) as i16 + if map.is_some() { 6 } else { 1 }, 0),
    ];
    for word in 0..KEY as i16 / 8 {
        code.push(instruction(LOAD_64, 5, 2, 8 * word, 0));
        code.push(instruction(STORE_64, 10, 5, 8 * word - KEY as i16, 0));
    }
    if let Some(map) = map {
        code.extend(load_map(1, 1, map));
        code.push(instruction(MOVE, 2, 10, 0, 0));
        code.push(instruction(ADD_NUMBER, 2, 0, 0, -(KEY as i32)));
        code.push(instruction(CALL, 0, 0, 0, LOOK_UP));
    }
    code.push(instruction(MOVE_NUMBER, 0, 0, 0, NEXT));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    bpf::load(&code)
}

/// Puts a random one of the addresses into the packet and goes on with another program, as a
/// tail call. So every run of a test run has another address, at the same cost for all.
pub struct Driver {
    program: OwnedFd,
    _maps: [OwnedFd; 2],
}

impl Driver {
    /// `field` is the address's offset in the packet: 12 the source's, 16 the destination's.
    pub fn new(next: BorrowedFd, stride: u32, field: i16) -> Self {
        let seed = bpf::create(ARRAY, 4, 8, 1);
        bpf::update(&seed, &[0; 4], &0x9e37_79b9_7f4a_7c15_u64.to_ne_bytes());
        let programs = bpf::create(PROG_ARRAY, 4, 4, 1);
        bpf::update(&programs, &[0; 4], &next.as_raw_fd().to_ne_bytes());
        let mut code = vec![instruction(MOVE, 6, 1, 0, 0)];
        code.extend(load_map(7, 2, &seed));
        code.push(instruction(LOAD_64, 1, 7, 0, 0));
        // xorshift64.
        for (shift, by) in [(LEFT, 13), (RIGHT, 7), (LEFT, 17)] {
            code.push(instruction(MOVE, 2, 1, 0, 0));
            code.push(instruction(shift, 2, 0, 0, by));
            code.push(instruction(XOR, 1, 2, 0, 0));
        }
        code.push(instruction(STORE_64, 7, 1, 0, 0));
        code.push(instruction(AND_32, 1, 0, 0, ADDRESSES as i32 - 1));
        code.push(instruction(MULTIPLY_32, 1, 0, 0, stride as i32));
        code.push(instruction(AND_32, 1, 0, 0, NETWORK as i32 - 1));
        code.push(instruction(ADD_32, 1, 0, 0, BASE as i32));
        code.push(instruction(TO_BIG_ENDIAN, 1, 0, 0, 32));
        code.push(instruction(LOAD_32, 2, 6, DATA, 0));
        code.push(instruction(LOAD_32, 3, 6, DATA_END, 0));
        code.push(instruction(MOVE, 4, 2, 0, 0));
        code.push(instruction(ADD_NUMBER, 4, 0, 0, KEY as i32));
        code.push(instruction(IF_GREATER, 4, 3, 6, 0));
        code.push(instruction(STORE_32, 2, 1, field, 0));
        code.push(instruction(MOVE, 1, 6, 0, 0));
        code.extend(load_map(2, 1, &programs));
        code.push(instruction(MOVE_NUMBER, 3, 0, 0, 0));
        code.push(instruction(CALL, 0, 0, 0, TAIL_CALL));
        // A packet too short, or a tail call that failed.
        code.push(instruction(MOVE_NUMBER, 0, 0, 0, FAILED));
        code.push(instruction(EXIT, 0, 0, 0, 0));
        Self { program: bpf::load(&code), _maps: [seed, programs] }
    }

    /// Mean ns of `repeat` runs.
    pub fn run(&self, packet: &[u8], repeat: u32) -> f64 {
        let (returned, duration) = bpf::run(self.program.as_fd(), packet, repeat);
        assert_ne!(returned, FAILED, "the tail call");
        duration
    }
}
