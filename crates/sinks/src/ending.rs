//! How threads are told to end.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
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
}

/// Threads that end together, each with what it tells of itself.
pub(crate) struct Threads<P> {
    all: Vec<(Arc<P>, JoinHandle<()>)>,
    ending: Arc<Ending>,
}

impl<P> Threads<P> {
    pub(crate) fn new() -> Self {
        Self { all: Vec::new(), ending: Arc::default() }
    }

    /// Starts one, which ends when it is told to.
    pub(crate) fn start(
        &mut self,
        name: String,
        progress: Arc<P>,
        run: impl FnOnce(Arc<Ending>) + Send + 'static,
    ) -> io::Result<()> {
        let ending = self.ending.clone();
        let thread = std::thread::Builder::new().name(name).spawn(move || run(ending))?;
        self.all.push((progress, thread));
        Ok(())
    }

    /// What each tells, and the problem that its thread has ended though nobody told it to.
    pub(crate) fn progress<T>(&self, of: impl Fn(&P, Option<String>) -> T) -> Vec<T> {
        let ended = |thread: &JoinHandle<()>| {
            thread.is_finished().then(|| "its thread has ended: start the agent again".to_owned())
        };
        self.all.iter().map(|(progress, thread)| of(progress, ended(thread))).collect()
    }

    /// Tells them to end, and waits for them no longer than `limit`.
    pub(crate) fn end(&self, limit: Duration) {
        let until = Instant::now() + limit;
        *self.ending.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        self.ending.news.notify_all();
        while self.all.iter().any(|(_, thread)| !thread.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
