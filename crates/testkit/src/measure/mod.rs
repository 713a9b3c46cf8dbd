//! What a packet costs in a BPF program: programs written instruction by instruction, run by
//! BPF_PROG_TEST_RUN.
//!
//! BPF_PROG_TEST_RUN gives every repetition the same bytes, which would measure one address in
//! a warm cache; and one call a packet would measure system calls. So a [`Driver`] writes
//! another address into the packet for every run, and goes on by a tail call with the program
//! under test, unchanged; or it sends the packet out of an interface, for what is measured
//! behind a wire. The same driver in front of [`nothing`] tells what to subtract.

pub mod bpf;
mod code;
mod driver;
mod programs;

pub use driver::{Addresses, Driver, Order, Parts, Then, Write};
pub use programs::{KEY, Misses, dropping, keyed, lpm_pair, nothing};

/// `TCX_NEXT`: what a classifier returns that passes a packet on.
pub const NEXT: i32 = -1;

/// Where a program runs, and so what its context looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// A classifier (TC, TCX).
    Tc,
    /// XDP.
    Xdp,
}

impl Hook {
    /// What passes a packet on: `TCX_NEXT`, `XDP_PASS`.
    #[must_use]
    pub const fn pass(self) -> i32 {
        match self {
            Self::Tc => NEXT,
            Self::Xdp => 2,
        }
    }

    /// What the programs here return if a packet is too short or a tail call failed, and which
    /// no other program returns: `TC_ACT_PIPE`, `XDP_ABORTED`.
    #[must_use]
    pub const fn failed(self) -> i32 {
        match self {
            Self::Tc => 3,
            Self::Xdp => 0,
        }
    }

    /// `TC_ACT_SHOT`, `XDP_DROP`.
    #[must_use]
    pub const fn drop(self) -> i32 {
        match self {
            Self::Tc => 2,
            Self::Xdp => 1,
        }
    }

    /// Offsets of the packet's start and end in the context.
    const fn bounds(self) -> (i16, i16) {
        match self {
            Self::Tc => (76, 80),
            Self::Xdp => (0, 4),
        }
    }
}
