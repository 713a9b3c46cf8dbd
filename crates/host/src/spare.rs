//! Descriptors kept in reserve, for what must go on when the process has no others left: to put a program on
//! its hook again, and to tell the guard what to close.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

/// How many: nft needs six for the ends of three pipes, and what is asked of the kernel meanwhile a few more.
const RESERVE: usize = 16;

/// With fewer besides it the process is short of them: as many as a command needs that only asks.
const OTHERS: usize = 4;

static SPARE: Mutex<Spare> = Mutex::new(Spare { held: Vec::new(), wanted: 0, borrowers: 0, is_short: false });

struct Spare {
    held: Vec<OwnedFd>,
    wanted: usize,
    borrowers: usize,
    is_short: bool,
}

/// As long as it lives, the reserve's descriptors are free for whoever opens something.
#[derive(Debug)]
pub struct Lent(());

fn spare() -> MutexGuard<'static, Spare> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spare {
    /// Takes what is missing, unless it is lent.
    fn fill(&mut self) {
        while self.borrowers == 0 && self.held.len() < self.wanted {
            let Ok(descriptor) = eventfd(0, EventfdFlags::CLOEXEC) else { return };
            self.held.push(descriptor);
        }
    }

    /// Finds out whether there are others. Not while it is lent: what this takes for a moment may be what the
    /// borrower needs.
    fn look(&mut self) {
        if self.borrowers == 0 {
            self.fill();
            let others: Result<Vec<_>, _> = (0..OTHERS).map(|_| eventfd(0, EventfdFlags::CLOEXEC)).collect();
            self.is_short = self.held.len() < self.wanted || others.is_err();
        }
    }
}

/// Keeps a reserve from now on. The earlier, the better: low numbers are free for use even where somebody
/// lowers the limit.
pub fn keep() {
    let mut spare = spare();
    spare.wanted = RESERVE;
    spare.fill();
}

/// Gives the reserve up until what is returned is dropped.
#[must_use]
pub fn lend() -> Lent {
    let mut spare = spare();
    spare.look();
    spare.borrowers += 1;
    spare.held.clear();
    Lent(())
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spare = spare();
        spare.borrowers -= 1;
        spare.fill();
    }
}

/// How many descriptors the reserve lacks, after taking what there is; `None` while it is lent.
#[must_use]
pub fn missing() -> Option<usize> {
    let mut spare = spare();
    spare.fill();
    (spare.borrowers == 0).then(|| spare.wanted - spare.held.len())
}

/// Whether the process has hardly any descriptors left but the reserve's; while it is lent, whether it had.
#[must_use]
pub fn is_short() -> bool {
    let mut spare = spare();
    spare.look();
    spare.is_short
}

/// Opens something, with the reserve if no other descriptor is left.
///
/// # Errors
/// Those of `open`.
pub fn open<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match open() {
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
            let _lent = lend();
            open()
        }
        opened => opened,
    }
}
