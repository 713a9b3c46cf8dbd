//! How threads are told to end.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Tells workers to end.
#[derive(Default)]
pub(crate) struct Ending {
    /// Until when they may go on to send what is there.
    until: Mutex<Option<Instant>>,
    news: Condvar,
}

impl Ending {
    /// Until when to go on; none: nobody has told to end.
    pub(crate) fn until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, or until it is told to end.
    pub(crate) fn wait(&self, time: Duration) {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_none() {
            drop(self.news.wait_timeout(until, time));
        }
    }

    /// Tells them, and waits for their threads, no longer than `limit`.
    pub(crate) fn end<'t>(&self, limit: Duration, threads: impl Iterator<Item = &'t JoinHandle<()>> + Clone) {
        let until = Instant::now() + limit;
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        self.news.notify_all();
        while threads.clone().any(|thread| !thread.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What to say of a thread that has ended though nobody told it to.
pub(crate) fn ended(thread: &JoinHandle<()>) -> Option<String> {
    thread.is_finished().then(|| "its thread has ended: start the agent again".to_owned())
}
