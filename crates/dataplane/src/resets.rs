//! Segments that programs ask to be answered by a reset.

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{MapData, RingBuf};
use bulkhead_abi::ResetRequest;

use super::{KernelError, Pins, state};

/// The ring of them, in order. It is readable when there is one.
pub struct Resets(RingBuf<MapData>);

impl Resets {
    /// Opens the ring. There is one reader at a time.
    ///
    /// # Errors
    /// If it is not pinned.
    pub fn open(pins: &Pins) -> Result<Self, KernelError> {
        state::ring(&pins.state("RESETS")).map(Self)
    }

    /// Takes the next one; none if there is none now. Never waits.
    pub fn take(&mut self) -> Option<ResetRequest> {
        loop {
            let item = self.0.next()?;
            if item.len() == size_of::<ResetRequest>() {
                // SAFETY: as many bytes as one has, every bit pattern of which is one.
                return Some(unsafe { item.as_ptr().cast::<ResetRequest>().read_unaligned() });
            }
        }
    }
}

impl AsFd for Resets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
