//! Packets that go on while something else is measured.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use bulkhead_testkit::lab::Namespace;
use bulkhead_testkit::measure::Driver;

use crate::stage::stay_on;

/// Frames of one burst of each kind, some 50 ms. Between bursts the kernel takes the frames'
/// memory down, some 20 ms in which no packet comes: so bursts are long.
pub const BURST: u32 = 1 << 16;
/// Frames of a burst that takes more than a second, for what must not meet such a pause.
pub const LONG_BURST: u32 = 1 << 21;

/// A kind of packets.
pub struct Stream {
    /// Makes and sends them.
    pub driver: Driver,
    /// Like this one.
    pub frame: Vec<u8>,
    /// How many were sent.
    pub sent: AtomicU64,
}

impl Stream {
    /// None sent yet.
    #[must_use]
    pub const fn new(driver: Driver, frame: Vec<u8>) -> Self {
        Self { driver, frame, sent: AtomicU64::new(0) }
    }

    /// How many were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }
}

/// Sends bursts of so many frames of every stream in turn until it is told to stop.
pub struct Flood<'scope> {
    thread: ScopedJoinHandle<'scope, Result<()>>,
    stop: &'scope AtomicBool,
}

impl<'scope> Flood<'scope> {
    /// Starts sending, on the CPU, from the namespace.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        sender: &'scope Namespace,
        cpu: usize,
        streams: &'scope [Stream],
        burst: u32,
        stop: &'scope AtomicBool,
    ) -> Self {
        stop.store(false, Ordering::Release);
        let send = move || -> Result<()> {
            stay_on(cpu)?;
            while !stop.load(Ordering::Acquire) {
                for stream in streams {
                    stream.driver.send(&stream.frame, burst)?;
                    stream.sent.fetch_add(burst.into(), Ordering::AcqRel);
                }
            }
            Ok(())
        };
        Self { thread: scope.spawn(move || sender.run(send)?), stop }
    }

    /// Stops, and waits until the last packet was received.
    ///
    /// # Errors
    /// What sending failed with.
    pub fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        let result = self.thread.join().map_err(|_| anyhow!("the sending thread panicked"))?;
        thread::sleep(Duration::from_millis(20));
        result
    }
}
