//! How far a sink is, for others.

use std::sync::{Mutex, PoisonError};

use bulkhead_api::status::Sink;

/// A sink's progress, which its thread writes.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<Sink>);

impl Shared {
    pub(crate) fn new(name: &str, kind: &str) -> Self {
        let (name, kind) = (name.to_owned(), kind.to_owned());
        Self(Mutex::new(Sink {
            name,
            kind,
            position: 0,
            behind: 0,
            skipped: 0,
            set_aside: 0,
            refused: 0,
            problem: None,
        }))
    }

    pub(crate) fn read(&self) -> Sink {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut Sink)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
