//! Threads that end with the agent.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Waits for a thread that was told to end, no longer than `limit`.
pub fn wait(thread: &JoinHandle<()>, limit: Duration) {
    let until = Instant::now() + limit;
    while !thread.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
}
