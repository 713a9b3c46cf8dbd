//! Threads beside a test that end with it, also where it fails: nobody waits for them for ever.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether threads are to go on.
#[derive(Default)]
pub struct Stop(AtomicBool);

/// Ends them when it is dropped.
pub struct Stopping<'a>(&'a Stop);

impl Stop {
    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// It is over once what is returned is dropped.
    pub fn at_end(&self) -> Stopping<'_> {
        Stopping(self)
    }
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
