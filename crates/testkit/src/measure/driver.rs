//! The program in front, which gives every packet another address.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Hook;
use super::bpf::{self, ARRAY, PROG_ARRAY, Ran};
use super::code::{Code, Operation, REDIRECT, Size, TAIL_CALL};

/// Numbered addresses, all of them different. Of an IPv6 address they are the last four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// In host byte order.
    pub first: u32,
    /// How many there are.
    pub count: u32,
    /// Bits of the network that they are scattered over as by a random choice; 0: side by side.
    pub scattered: u32,
}

/// Odd, so that multiplying by it permutes the numbers of so many bits.
const FACTOR: u32 = 0x9e37_79b1;

impl Addresses {
    /// Side by side.
    #[must_use]
    pub const fn dense(first: Ipv4Addr, count: u32) -> Self {
        Self { first: first.to_bits(), count, scattered: 0 }
    }

    /// Scattered over a network of so many bits (at least 2), as by a random choice.
    #[must_use]
    pub const fn scattered(first: Ipv4Addr, bits: u32, count: u32) -> Self {
        Self { first: first.to_bits(), count, scattered: bits }
    }

    const fn mask(&self) -> u32 {
        u32::MAX >> (32 - self.scattered)
    }

    /// The address of an index, as a number.
    #[must_use]
    pub const fn number(&self, index: u32) -> u32 {
        if self.scattered == 0 {
            return self.first.wrapping_add(index);
        }
        // Each step permutes the network's numbers.
        let mut number = index.wrapping_mul(FACTOR) & self.mask();
        number ^= number >> (self.scattered / 2);
        self.first.wrapping_add(number.wrapping_mul(FACTOR) & self.mask())
    }

    /// The address of an index.
    #[must_use]
    pub const fn v4(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.number(index))
    }

    /// The address of an index in an IPv6 network of 96 bits.
    #[must_use]
    pub fn v6(&self, network: Ipv6Addr, index: u32) -> Ipv6Addr {
        Ipv6Addr::from_bits(network.to_bits() | u128::from(self.number(index)))
    }
}

/// Which address comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any, by xorshift64.
    Random,
    /// One after the other, from the first.
    Sequential,
}

/// Two values that 16 bits of the packet take in turn, the address staying the same for both:
/// the two fragments of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// Where, in bytes from the packet's start.
    pub offset: i16,
    /// What first and what second, in network byte order.
    pub values: [u16; 2],
}

/// What is written into a packet before it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The addresses.
    pub addresses: Addresses,
    /// In which order.
    pub order: Order,
    /// Where the address's last four bytes are, in bytes from the packet's start.
    pub offset: i16,
    /// Bytes that every packet must have.
    pub length: i32,
    /// Two parts of one datagram.
    pub parts: Option<Parts>,
    /// Where the IPv4 header is whose checksum must be right, as for what passes a stack. The
    /// address must be in it.
    pub checksum: Option<i16>,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a> {
    /// To a program of the same hook.
    Program(BorrowedFd<'a>),
    /// Out of the interface of this index (XDP).
    Interface(u32),
    /// Back to the test run, which ends its way.
    Nowhere,
}

/// Puts one of the addresses into each packet and goes on.
pub struct Driver {
    hook: Hook,
    program: OwnedFd,
    _maps: [OwnedFd; 2],
}

impl Driver {
    /// Loads the program. `packet` is one that will be given to it: of its IPv4 header the
    /// checksum starts.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new(hook: Hook, then: Then, write: Write, packet: &[u8]) -> Result<Self> {
        let state = bpf::create(ARRAY, 4, 16, 1)?;
        let mut seed = [0; 16];
        if write.order == Order::Random {
            seed[..8].copy_from_slice(&0x9e37_79b9_7f4a_7c15_u64.to_ne_bytes());
        } else {
            // The first packet counts on from here to 0.
            seed[..8].copy_from_slice(&u64::from(write.addresses.count - 1).to_ne_bytes());
        }
        bpf::update(&state, &[0; 4], &seed)?;
        let programs = bpf::create(PROG_ARRAY, 4, 4, 1)?;
        if let Then::Program(next) = then {
            bpf::update(&programs, &[0; 4], &next.as_raw_fd().to_ne_bytes())?;
        }
        let instructions = instructions(hook, then, write, packet, &state, &programs);
        Ok(Self { hook, program: bpf::load(hook, &instructions)?, _maps: [state, programs] })
    }

    /// Runs on a packet, which must be like the one it was made for.
    ///
    /// # Errors
    /// If the kernel refuses, the packet is too short, or the tail call failed.
    pub fn run(&self, packet: &[u8], repeat: u32) -> Result<Ran> {
        let ran = bpf::run(self.program.as_fd(), packet, repeat)?;
        ensure!(
            ran.returned != self.hook.failed(),
            "the driver's packet is too short, or its tail call failed"
        );
        Ok(ran)
    }

    /// Sends frames into this thread's network namespace; the time that took.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn send(&self, frame: &[u8], count: u32) -> Result<Duration> {
        let start = std::time::Instant::now();
        bpf::send(self.program.as_fd(), frame, count)?;
        Ok(start.elapsed())
    }
}

/// Sum of an IPv4 header's 16-bit words (RFC 1071) without its checksum and the address at `address`.
fn partial_sum(packet: &[u8], header: usize, address: usize) -> u32 {
    let word = |at: usize| u32::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let words = (0..10).map(|index| header + 2 * index);
    words.filter(|&at| at != header + 10 && at != address && at != address + 2).map(word).sum()
}

fn instructions(
    hook: Hook,
    then: Then,
    write: Write,
    packet: &[u8],
    state: &OwnedFd,
    programs: &OwnedFd,
) -> Vec<u64> {
    let Write { addresses, offset, .. } = write;
    let mut code = Code::default();
    let failed = code.label();
    code.with(Operation::Move, 6, 1);
    code.value(7, state);
    code.load(Size::Eight, 1, 7, 0);
    let same = code.label();
    if write.parts.is_some() {
        // r8: which part, 1 or 0.
        code.load(Size::Eight, 8, 7, 8);
        code.number(Operation::Xor, 8, 1);
        code.store(Size::Eight, 7, 8, 8);
        code.if_zero(8, same);
    }
    match write.order {
        Order::Random => {
            for (shift, by) in
                [(Operation::ShiftLeft, 13), (Operation::ShiftRight, 7), (Operation::ShiftLeft, 17)]
            {
                code.with(Operation::Move, 2, 1);
                code.number(shift, 2, by);
                code.with(Operation::Xor, 1, 2);
            }
        }
        Order::Sequential => {
            code.number(Operation::Add, 1, 1);
            code.number(Operation::Modulo, 1, addresses.count as i32);
        }
    }
    code.store(Size::Eight, 7, 0, 1);
    code.place(same);
    if write.order == Order::Random {
        // Of the lower half, as a fraction of 2^32.
        code.number_32(Operation::And, 1, u32::MAX);
        code.number(Operation::Multiply, 1, addresses.count as i32);
        code.number(Operation::ShiftRight, 1, 32);
    }
    if addresses.scattered != 0 {
        // As in `Addresses::number`.
        code.number_32(Operation::Multiply, 1, FACTOR);
        code.number_32(Operation::And, 1, addresses.mask());
        code.with(Operation::Move, 2, 1);
        code.number(Operation::ShiftRight, 2, (addresses.scattered / 2) as i32);
        code.with(Operation::Xor, 1, 2);
        code.number_32(Operation::Multiply, 1, FACTOR);
        code.number_32(Operation::And, 1, addresses.mask());
    }
    code.number_32(Operation::Add, 1, addresses.first);
    let (start, end) = hook.bounds();
    code.load(Size::Four, 2, 6, start);
    code.load(Size::Four, 3, 6, end);
    code.with(Operation::Move, 4, 2);
    code.number(Operation::Add, 4, write.length);
    code.if_greater(4, 3, failed);
    if let Some(header) = write.checksum {
        let sum = partial_sum(packet, header as usize, offset as usize);
        code.with(Operation::Move, 4, 1);
        code.number(Operation::ShiftRight, 4, 16);
        code.with(Operation::Move, 5, 1);
        code.number_32(Operation::And, 5, 0xffff);
        code.with(Operation::Add, 4, 5);
        code.number(Operation::Add, 4, sum as i32);
        for _ in 0..2 {
            code.with(Operation::Move, 5, 4);
            code.number(Operation::ShiftRight, 5, 16);
            code.number_32(Operation::And, 4, 0xffff);
            code.with(Operation::Add, 4, 5);
        }
        code.number(Operation::Xor, 4, 0xffff);
        code.big_endian(4, 16);
        code.store(Size::Two, 2, header + 10, 4);
    }
    code.big_endian(1, 32);
    code.store(Size::Four, 2, offset, 1);
    if let Some(Parts { offset, values: [first, second] }) = write.parts {
        let (other, done) = (code.label(), code.label());
        code.if_zero(8, other);
        code.store_number(Size::Two, 2, offset, i32::from(first.to_be()));
        code.number(Operation::Move, 4, 0);
        code.if_zero(4, done);
        code.place(other);
        code.store_number(Size::Two, 2, offset, i32::from(second.to_be()));
        code.place(done);
    }
    match then {
        Then::Program(_) => {
            code.with(Operation::Move, 1, 6);
            code.map(2, programs);
            code.number(Operation::Move, 3, 0);
            code.call(TAIL_CALL);
        }
        Then::Interface(index) => {
            code.number(Operation::Move, 1, index as i32);
            code.number(Operation::Move, 2, 0);
            code.call(REDIRECT);
            code.exit();
        }
        Then::Nowhere => code.answer(hook.drop()),
    }
    code.place(failed);
    code.answer(hook.failed());
    code.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use super::Addresses;

    #[test]
    fn scattered_addresses_differ_and_stay_in_their_network() {
        for bits in [2, 10, 17] {
            let all = Addresses::scattered(Ipv4Addr::new(100, 64, 0, 0), bits, 1 << bits);
            let found: HashSet<u32> = (0..all.count).map(|index| all.number(index) - all.first).collect();
            assert_eq!(found.len(), 1 << bits);
            assert!(found.iter().all(|number| number >> bits == 0));
        }
    }

    #[test]
    fn scattered_addresses_fill_blocks_as_a_random_choice_does() {
        // 2^16 of 2^24 addresses, in blocks of 256: 1 - 1/e of the 2^16 blocks are expected.
        let some = Addresses::scattered(Ipv4Addr::new(64, 0, 0, 0), 24, 1 << 16);
        let blocks: HashSet<u32> = (0..some.count).map(|index| some.number(index) >> 8).collect();
        let part = blocks.len() as f64 / f64::from(1 << 16);
        assert!((part - 0.632).abs() < 0.05, "{part}");
    }
}
