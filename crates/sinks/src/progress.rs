//! How far a sink is, for others.

use std::sync::{Mutex, PoisonError};

/// How far a sink is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Its name.
    pub name: String,
    /// Its kind, such as `otlp`.
    pub kind: &'static str,
    /// The number of the first record that the receiver has not confirmed.
    pub position: u64,
    /// Records in the log that the receiver has not confirmed.
    pub behind: u64,
    /// Records since the agent's start that the log had pruned before they were sent.
    pub skipped: u64,
    /// Records since the agent's start that the receiver has refused.
    pub refused: u64,
    /// Why nothing is sent at the moment, if so.
    pub problem: Option<String>,
}

/// A sink's progress, which its thread writes.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<Progress>);

impl Shared {
    pub(crate) fn new(name: &str, kind: &'static str) -> Self {
        Self(Mutex::new(Progress { name: name.to_owned(), kind, ..Progress::default() }))
    }

    pub(crate) fn read(&self) -> Progress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
