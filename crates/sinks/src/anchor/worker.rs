//! The threads of anchors.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_api::status::Anchor;

use super::{AnchorSettings, Last, open};
use crate::ending::{Ending, Threads};
use crate::outlet::Failure;

/// Between two tries of one that fails, unless checkpoints go there more often.
const RETRY: Duration = Duration::from_secs(30);

/// One that wants to be asked sooner is not.
const SHORTEST: Duration = Duration::from_secs(1);

/// Longer than any answer over a network is waited for: what takes longer hangs.
const HANGS: Duration = Duration::from_secs(90);

/// All anchors of an agent.
pub struct Anchors(Threads<Progress>);

impl Anchors {
    /// Starts a thread for each. `log` is the event log's directory.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start(settings: Vec<AnchorSettings>, log: &Path) -> io::Result<Self> {
        let mut threads = Threads::new();
        for settings in settings {
            let progress = Arc::new(Progress::new(&settings));
            let name = format!("anchor {}", settings.name);
            let (log, told) = (log.to_owned(), progress.clone());
            threads.start(name, progress, move |ending| {
                Worker { settings, log, progress: told, ending }.run();
            })?;
        }
        Ok(Self(threads))
    }

    /// What each has.
    #[must_use]
    pub fn progress(&self) -> Vec<Anchor> {
        self.0.progress(|progress, ended| {
            let anchor = progress.read();
            Anchor { problem: ended.or(anchor.problem), ..anchor }
        })
    }

    /// Ends them. Within a limit they take the last checkpoint out.
    pub fn end(&self, limit: Duration) {
        self.0.end(limit);
    }
}

/// What an anchor has, which its thread writes.
struct Progress(Mutex<State>);

struct State {
    anchor: Anchor,
    /// When it took that.
    taken: Option<Instant>,
    /// Since when it is being given another one.
    giving: Option<Instant>,
}

impl Progress {
    fn new(settings: &AnchorSettings) -> Self {
        let (name, kind) = (settings.name.clone(), settings.kind.name().to_owned());
        let anchor = Anchor { name, kind, records: 0, age_seconds: None, problem: None };
        Self(Mutex::new(State { anchor, taken: None, giving: None }))
    }

    fn read(&self) -> Anchor {
        let State { anchor, taken, giving } = &*self.held();
        let hangs = giving.map(|since| since.elapsed()).filter(|time| *time > HANGS);
        let hangs = hangs.map(|time| format!("has not answered for {} s", time.as_secs()));
        let age_seconds = taken.map(|taken| taken.elapsed().as_secs());
        Anchor { age_seconds, problem: hangs.or_else(|| anchor.problem.clone()), ..anchor.clone() }
    }

    fn held(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One anchor's thread.
struct Worker {
    settings: AnchorSettings,
    log: PathBuf,
    progress: Arc<Progress>,
    ending: Arc<Ending>,
}

impl Worker {
    fn run(self) {
        let (mut keeper, mut given) = (None, None);
        loop {
            let is_last = self.ending.until().is_some();
            let every = self.settings.every;
            self.progress.held().giving = Some(Instant::now());
            let turn = self.turn(&mut keeper, given);
            self.progress.held().giving = None;
            let pause = match turn {
                Ok(size) => {
                    given = size;
                    self.is_well();
                    every
                }
                Err(failure) => {
                    keeper = None;
                    self.fail(&failure);
                    failure.retry_after.unwrap_or(RETRY).clamp(SHORTEST, RETRY).min(every)
                }
            };
            if is_last {
                return;
            }
            // Not all agents of a fleet at once.
            self.ending.wait(pause.mul_f64(1.0 - fastrand::f64() / 10.0));
        }
    }

    /// Gives the last checkpoint, unless that is the one that was `given`. Its size.
    fn turn(
        &self,
        keeper: &mut Option<Box<dyn super::Keeper>>,
        given: Option<u64>,
    ) -> Result<Option<u64>, Failure> {
        let Some(last) = Last::of(&self.log)? else { return Ok(None) };
        let size = last.checkpoint().size;
        if given != Some(size) {
            let keeper = match keeper {
                Some(keeper) => keeper,
                closed => closed.insert(open(&self.settings.kind)?),
            };
            keeper.give(&last)?;
            self.took(size);
        }
        Ok(Some(size))
    }

    fn took(&self, size: u64) {
        let mut state = self.progress.held();
        (state.anchor.records, state.taken) = (size, Some(Instant::now()));
    }

    fn is_well(&self) {
        if self.progress.held().anchor.problem.take().is_some() {
            tracing::info!(anchor = self.settings.name, "takes checkpoints again");
        }
    }

    fn fail(&self, failure: &Failure) {
        let problem = failure.to_string();
        let before = self.progress.held().anchor.problem.replace(problem.clone());
        if before.as_ref() != Some(&problem) {
            tracing::warn!(anchor = self.settings.name, "has not the last checkpoint: {problem}");
        }
    }
}
