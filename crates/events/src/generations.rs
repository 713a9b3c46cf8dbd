//! Names by generation. Those of a generation that this agent has not built are made by a thread of their own, out
//! of the way of events.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::enrich::Enricher;

/// Generations whose names are kept: events of those before are long read.
const KEPT: usize = 8;

/// How long events wait for names that are being made.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a generation's names.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// They are known.
    Known(Arc<Enricher>),
    /// They are being made, and worth waiting for.
    Pending,
    /// They cannot be made, or have taken too long so far.
    Unknown(Arc<Enricher>),
}

enum State {
    Known(Arc<Enricher>),
    Asked(Instant),
    Unknown,
}

#[derive(Default)]
struct Shared {
    states: Mutex<BTreeMap<u32, State>>,
    changed: Condvar,
}

/// Names of the last generations.
pub struct Generations {
    shared: Arc<Shared>,
    wanted: Mutex<Sender<u32>>,
    unknown: Arc<Enricher>,
}

impl Shared {
    fn states(&self) -> MutexGuard<'_, BTreeMap<u32, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, generation: u32, state: State) {
        let mut states = self.states();
        // What this agent has built is not replaced by what a file says.
        if !matches!(states.get(&generation), Some(State::Known(_))) {
            states.insert(generation, state);
        }
        while states.len() > KEPT {
            let old = states
                .iter()
                .find(|(number, state)| **number != generation && !matches!(state, State::Asked(_)));
            let Some(old) = old.map(|(number, _)| *number) else { break };
            states.remove(&old);
        }
        drop(states);
        self.changed.notify_all();
    }
}

impl Generations {
    /// Knows none yet. `resolve` makes the names of a generation that was built by an earlier agent, on a thread
    /// of its own; `unknown` are those of a generation that nothing is known of.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn new(
        unknown: Enricher,
        resolve: impl Fn(u32) -> Option<Enricher> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (wanted, asked): (_, Receiver<u32>) = channel();
        let of_thread = shared.clone();
        std::thread::Builder::new().name("names".to_owned()).spawn(move || {
            for generation in asked {
                let state = resolve(generation).map_or(State::Unknown, |names| State::Known(Arc::new(names)));
                of_thread.insert(generation, state);
            }
        })?;
        Ok(Self { shared, wanted: Mutex::new(wanted), unknown: Arc::new(unknown) })
    }

    /// Adds the names of a generation, before a packet can meet it.
    pub fn add(&self, generation: u32, names: Arc<Enricher>) {
        self.shared.states().remove(&generation);
        self.shared.insert(generation, State::Known(names));
    }

    /// The names of a generation, as far as they are known. Never waits; what is not known is asked for.
    pub fn look_up(&self, generation: u32) -> Lookup {
        let unknown = || Lookup::Unknown(self.unknown.clone());
        match self.shared.states().get(&generation) {
            Some(State::Known(names)) => return Lookup::Known(names.clone()),
            Some(State::Unknown) => return unknown(),
            Some(State::Asked(since)) if since.elapsed() >= PATIENCE => return unknown(),
            Some(State::Asked(_)) => return Lookup::Pending,
            None => {}
        }
        self.shared.insert(generation, State::Asked(Instant::now()));
        match self.wanted.lock().unwrap_or_else(PoisonError::into_inner).send(generation) {
            Ok(()) => Lookup::Pending,
            Err(_) => unknown(),
        }
    }

    /// The names of a generation, or those of one that is not known.
    pub fn known(&self, generation: u32) -> Arc<Enricher> {
        match self.look_up(generation) {
            Lookup::Known(names) | Lookup::Unknown(names) => names,
            Lookup::Pending => self.unknown.clone(),
        }
    }

    /// Waits until no names of these generations are worth waiting for any more.
    pub fn wait(&self, generations: &BTreeSet<u32>) {
        let is_pending = |generation: &u32| matches!(self.look_up(*generation), Lookup::Pending);
        while generations.iter().any(is_pending) {
            let states = self.shared.states();
            // What was made in between is seen after so long.
            let _ = self.shared.changed.wait_timeout(states, Duration::from_millis(20));
        }
    }

    /// The generation that was made last, and its names.
    #[must_use]
    pub fn latest(&self) -> (u32, Arc<Enricher>) {
        let states = self.shared.states();
        let known = states.iter().rev().find_map(|(generation, state)| match state {
            State::Known(names) => Some((*generation, names.clone())),
            State::Asked(_) | State::Unknown => None,
        });
        known.unwrap_or_else(|| (0, self.unknown.clone()))
    }
}
