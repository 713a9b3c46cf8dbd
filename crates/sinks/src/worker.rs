//! The threads of sinks.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_api::status::Sink;
use bulkhead_export::Exported;

use crate::ending::{Ending, Threads};
use crate::outlet::{self, Failure, Outlet};
use crate::position::{Place, Position};
use crate::progress::Shared;
use crate::settings::{From, Settings};
use crate::source::RecordSource;

/// Records that are sent at once.
const BATCH: usize = 512;

/// Between two looks whether the log has more.
const LOOK: Duration = Duration::from_millis(200);

/// Between two tries of a receiver that fails: first, and at most.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Between two writes of a position. After a kill, what was sent since goes out again.
const SAVE: Duration = Duration::from_secs(1);

/// All sinks of an agent.
pub struct Sinks(Threads<Shared>);

impl Sinks {
    /// Starts a thread for each. Positions lie in the state directory.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start(settings: Vec<Settings>, source: &Arc<dyn RecordSource>, state: &Path) -> io::Result<Self> {
        let mut threads = Threads::new();
        for settings in settings {
            let progress = Arc::new(Shared::new(&settings.name, settings.kind.name()));
            let name = format!("sink {}", settings.name);
            let place = Place::new(state, &settings.name);
            let (source, told) = (source.clone(), progress.clone());
            let run = move |ending| Worker::new(settings, source, place, told, ending).run();
            threads.start(name, progress, run)?;
        }
        Ok(Self(threads))
    }

    /// How far each is.
    #[must_use]
    pub fn progress(&self) -> Vec<Sink> {
        self.0.progress(|progress, ended| {
            let sink = progress.read();
            Sink { problem: ended.or(sink.problem), ..sink }
        })
    }

    /// Ends them. Within a limit they send what is there; the rest is sent after the next start.
    pub fn end(&self, limit: Duration) {
        self.0.end(limit);
    }
}

/// One sink's thread.
struct Worker {
    settings: Settings,
    source: Arc<dyn RecordSource>,
    place: Place,
    progress: Arc<Shared>,
    ending: Arc<Ending>,
    outlet: Option<Box<dyn Outlet>>,
    /// What the receiver has confirmed.
    confirmed: Position,
    /// Whether that was found out.
    is_known: bool,
    /// What the file says.
    saved: Option<Position>,
    saved_at: Instant,
    /// The next record to send.
    next: u64,
    /// Records below it that were pruned are counted.
    counted: u64,
    /// What was sent and is not confirmed: when, and the position after it.
    in_flight: VecDeque<(Instant, Position)>,
}

impl Worker {
    fn new(
        settings: Settings,
        source: Arc<dyn RecordSource>,
        place: Place,
        progress: Arc<Shared>,
        ending: Arc<Ending>,
    ) -> Self {
        Self {
            settings,
            source,
            place,
            progress,
            ending,
            outlet: None,
            confirmed: Position::default(),
            is_known: false,
            saved: None,
            saved_at: Instant::now(),
            next: 0,
            counted: 0,
            in_flight: VecDeque::new(),
        }
    }

    fn run(mut self) {
        let mut pause = PAUSE;
        let mut is_placed = false;
        loop {
            let placed = if is_placed { Ok(()) } else { self.resume() };
            is_placed = placed.is_ok();
            let turn = placed.and_then(|()| self.turn());
            let until = self.ending.until();
            match turn {
                Ok(more) => {
                    if self.progress.read().problem.is_some() {
                        tracing::info!(sink = self.settings.name, "sends again");
                    }
                    pause = PAUSE;
                    self.note(None);
                    if !more && until.is_some() {
                        break;
                    }
                    if !more {
                        self.ending.wait(LOOK);
                    }
                }
                Err(failure) => {
                    self.fail(&failure);
                    // Another log may have begun meanwhile.
                    is_placed = false;
                    if until.is_some() {
                        break;
                    }
                    // Not all agents of a fleet at once.
                    let jitter = pause.mul_f64(fastrand::f64() / 2.0);
                    self.ending.wait(failure.retry_after.unwrap_or(pause).min(LONGEST_PAUSE) + jitter);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
        self.finish();
    }

    /// Finds the place to go on from.
    fn resume(&mut self) -> Result<(), Failure> {
        let end = self.source.end()?;
        let known = if self.is_known { Some(self.confirmed.clone()) } else { self.place.read() };
        let position = match known {
            Some(position) if self.is_of_this_log(&position, end)? => position,
            Some(position) => {
                self.begin_anew(&position);
                Position::default()
            }
            None if self.settings.from == From::Now => Position { next: end, last: None },
            None => Position::default(),
        };
        self.next = position.next;
        self.confirmed = position;
        self.is_known = true;
        self.note(None);
        Ok(())
    }

    /// Another log has begun: what the receiver has not confirmed of the one before, it does not get.
    fn begin_anew(&mut self, position: &Position) {
        let (sink, left) = (&self.settings.name, &position.next);
        let unsent = self.source.set_aside(*left, &|bytes| position.follows(bytes));
        match unsent {
            Some(0) => tracing::info!(sink, "another event log has begun: all of it is sent"),
            Some(unsent) => {
                tracing::warn!(
                    sink,
                    unsent,
                    "another event log has begun; records of the one before are not sent"
                );
            }
            None => tracing::warn!(
                sink,
                "another event log has begun; records of the one before from {left} on, if there are any, are not sent"
            ),
        }
        self.counted = 0;
        self.progress.note(|progress| progress.set_aside += unsent.unwrap_or(0));
    }

    fn is_of_this_log(&self, position: &Position, end: u64) -> io::Result<bool> {
        let Some(before) = position.next.checked_sub(1) else { return Ok(true) };
        if before >= end {
            return Ok(false);
        }
        let found = self.source.read(before, 1)?;
        // What is pruned cannot be compared.
        Ok(found.first().is_none_or(|(number, bytes)| *number != before || position.follows(bytes)))
    }

    /// Confirms what can be, and sends what is there. Whether there may be more.
    fn turn(&mut self) -> Result<bool, Failure> {
        self.confirm()?;
        let end = self.source.end()?;
        if end < self.next {
            return Err(io::Error::other("the event log is shorter than it was").into());
        }
        if end == self.next {
            return Ok(false);
        }
        let records = self.source.read(self.next, BATCH)?;
        let Some((first, _)) = records.first() else {
            return Err(io::Error::other(format!("record {} cannot be read", self.next)).into());
        };
        let skipped = first.saturating_sub(self.next.max(self.counted));
        if skipped != 0 {
            let sink = &self.settings.name;
            tracing::warn!(sink, skipped, "records were pruned from the event log before they were sent");
            self.progress.note(|progress| progress.skipped += skipped);
            self.counted = *first;
        }
        self.next = self.next.max(*first);
        let records: Vec<_> =
            records.into_iter().map(|(number, bytes)| Exported::new(number, bytes)).collect();
        let outlet = match &mut self.outlet {
            Some(outlet) => outlet,
            closed => closed.insert(outlet::open(&self.settings)?),
        };
        let sent = outlet.send(&records)?;
        if sent.refused != 0 {
            self.progress.note(|progress| progress.refused += sent.refused);
        }
        if let Some(last) = sent.taken.checked_sub(1).and_then(|last| records.get(last)) {
            let position = Position::after(last.sequence, last.bytes());
            self.next = position.next;
            self.in_flight.push_back((Instant::now(), position));
        }
        self.confirm()?;
        Ok(true)
    }

    /// Notes what the receiver has by now.
    fn confirm(&mut self) -> io::Result<()> {
        if let Some(outlet) = &mut self.outlet {
            outlet.check()?;
            let grace = outlet.grace();
            while self.in_flight.front().is_some_and(|(sent, _)| sent.elapsed() >= grace) {
                if let Some((_, position)) = self.in_flight.pop_front() {
                    self.confirmed = position;
                }
            }
        }
        if self.saved_at.elapsed() >= SAVE {
            self.save();
        }
        Ok(())
    }

    /// What is not confirmed is sent again.
    fn fail(&mut self, failure: &Failure) {
        let problem = failure.to_string();
        if self.progress.read().problem.as_ref() != Some(&problem) {
            tracing::warn!(sink = self.settings.name, "does not send; the event log keeps it: {problem}");
        }
        self.outlet = None;
        self.in_flight.clear();
        self.next = self.confirmed.next;
        self.note(Some(problem));
    }

    fn finish(mut self) {
        if let Some(outlet) = &mut self.outlet
            && let Some((_, position)) = self.in_flight.back()
        {
            let left = self
                .ending
                .until()
                .map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            match outlet.finish(left) {
                Ok(()) => self.confirmed = position.clone(),
                Err(error) => {
                    tracing::debug!(sink = self.settings.name, "what was sent last is sent again: {error}");
                }
            }
        }
        self.save();
        self.note(None);
    }

    fn save(&mut self) {
        self.saved_at = Instant::now();
        if self.saved.as_ref() == Some(&self.confirmed) {
            return;
        }
        match self.place.write(&self.confirmed) {
            Ok(()) => self.saved = Some(self.confirmed.clone()),
            Err(error) => tracing::warn!(sink = self.settings.name, "its position is not saved: {error}"),
        }
    }

    fn note(&self, problem: Option<String>) {
        let (position, end) = (self.confirmed.next, self.source.end());
        self.progress.note(|progress| {
            progress.position = position;
            progress.behind = end.map_or(progress.behind, |end| end.saturating_sub(position));
            progress.problem = problem;
        });
    }
}
