//! Packets that programs ask to be answered.

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{MapData, RingBuf};
use bulkhead_abi::AnswerRequest;

use super::{KernelError, Pins, state};

/// The ring of them, in order. It is readable when there is one.
pub struct Answers(RingBuf<MapData>);

impl Answers {
    /// Opens the ring. There is one reader at a time.
    ///
    /// # Errors
    /// If it is not pinned.
    pub fn open(pins: &Pins) -> Result<Self, KernelError> {
        state::ring(&pins.state("ANSWERS")).map(Self)
    }

    /// Takes the next one; none if there is none now. Never waits.
    pub fn take(&mut self) -> Option<AnswerRequest> {
        loop {
            let item = self.0.next()?;
            if item.len() == size_of::<AnswerRequest>() {
                // SAFETY: as many bytes as one has, every bit pattern of which is one.
                return Some(unsafe { item.as_ptr().cast::<AnswerRequest>().read_unaligned() });
            }
        }
    }
}

impl AsFd for Answers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
