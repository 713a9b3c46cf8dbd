//! Takes this host's event log, and a report on the host, to whoever collects them.
//!
//! A thread of its own reads the log on disk and has one batch on its way at a time: however long nobody collects,
//! nothing waits for it, and what was written meanwhile is read from the disk once somebody does.

pub mod broker;
pub mod carrier;
mod progress;
mod report;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_collect::{Given, Report, Sealed, seal};
use bulkhead_events::DIRECTORY;
use bulkhead_tlog::Reader;

use self::carrier::Carrier;
use self::progress::{Place, Progress};
use self::report::Reporter;
use crate::config::{Collector, Fleet};
use crate::daemon::clock::wall_time;
use crate::daemon::state::Enforcer;
use crate::daemon::threads;

/// Between two looks at what became of a batch, and whether there is more.
const LOOK: Duration = Duration::from_millis(250);

/// Between two batches of new records, unless more than one batch of them is left.
const GATHER: Duration = Duration::from_secs(1);

/// Records that are left when a batch does not wait for more.
const FULL: u64 = 4096;

/// Between two tries after a failure: first, and at most.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The thread, if anybody collects.
pub struct Upstream {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts it, if agent.toml says who collects.
///
/// # Errors
/// If the system has no more threads.
pub fn start(enforcer: &Arc<Enforcer>) -> io::Result<Option<Upstream>> {
    let Some(settings) = enforcer.setup.config.collector.clone() else { return Ok(None) };
    let (end, ended) = channel();
    let state = &enforcer.setup.paths.state;
    let sender = Sending {
        log: state.join(DIRECTORY),
        node: enforcer.setup.options.node.clone(),
        place: Place::new(state),
        progress: Progress::default(),
        settings,
        fleet: enforcer.setup.config.fleet.clone(),
        state: state.clone(),
        reporter: Reporter::new(enforcer.clone()),
        carrier: None,
        given: None,
        reported: None,
        problem: None,
    };
    let thread = std::thread::Builder::new().name("upstream".to_owned()).spawn(move || sender.run(&ended))?;
    Ok(Some(Upstream { end, thread }))
}

impl Upstream {
    /// Has it give what is there, within a limit. The next agent gives the rest.
    pub fn end(self, limit: Duration) {
        let Self { end, thread } = self;
        drop(end);
        threads::wait(&thread, limit);
    }
}

/// What the thread knows.
struct Sending {
    log: PathBuf,
    node: String,
    place: Place,
    progress: Progress,
    settings: Collector,
    fleet: Option<Fleet>,
    state: PathBuf,
    reporter: Reporter,
    carrier: Option<Box<dyn Carrier>>,
    /// The batch on its way: when it was given, where it ends, and how many records there were.
    given: Option<(Instant, Sealed)>,
    /// When a report was given last, and what it said.
    reported: Option<(Instant, Report)>,
    problem: Option<String>,
}

impl Sending {
    fn run(mut self, ended: &Receiver<()>) {
        self.progress = self.place.read();
        let mut pause = PAUSE;
        loop {
            let turn = self.turn(false);
            let wait = match turn {
                Ok(wait) => {
                    pause = PAUSE;
                    if self.problem.take().is_some() {
                        tracing::info!("batches go to the collector again");
                    }
                    wait
                }
                Err(error) => {
                    self.fail(&error);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    // Not all agents of a fleet at once.
                    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
                }
            };
            if ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                // Whoever collects has the last record, if that can be.
                let _ = self.turn(true);
                return;
            }
        }
    }

    /// Gives a batch, if there is something to say and nothing on its way. How long until the next turn.
    fn turn(&mut self, is_last: bool) -> io::Result<Duration> {
        let carrier = match &mut self.carrier {
            Some(carrier) => carrier,
            None => self.carrier.insert(carrier::open(
                &self.settings,
                self.fleet.as_ref(),
                &self.state,
                &self.node,
            )?),
        };
        let waits = match carrier.look()? {
            Given::Waits => true,
            Given::Taken(stands) => {
                if let Some((_, sealed)) = self.given.take() {
                    self.progress = Progress::at(&self.log, sealed.end);
                    self.place.write(&self.progress)?;
                }
                // It knows better than this host's own note of it.
                if let Some(stands) = stands.filter(|stands| *stands != self.progress.next) {
                    self.progress = Progress::at(&self.log, stands);
                }
                false
            }
        };
        let Some(reader) = reader(&self.log)? else { return Ok(LOOK) };
        let size = reader.checkpoint().size;
        self.progress = self.progress.in_log(&reader);
        let since = self.reported.as_ref().map(|(when, _)| when.elapsed());
        let is_due = since.is_none_or(|since| since >= self.settings.every);
        let report = self.reporter.report(is_due || is_last);
        let is_news = self.reported.as_ref().is_none_or(|(_, last)| says_more(last, &report));
        let is_more = self.progress.next < size;
        let gathered = since.is_none_or(|since| since >= GATHER);
        // While one waits only what is due takes its place.
        let must =
            if waits { is_due || is_last } else { is_due || is_last || gathered && (is_more || is_news) };
        let more_is_left = self.given.is_none() && !waits && is_more && size - self.progress.next > FULL;
        if !must && !more_is_left {
            return Ok(LOOK);
        }
        let made = wall_time().max(1);
        let sealed =
            seal(&self.log, &self.node, made, self.progress.next, &report).map_err(io::Error::other)?;
        carrier.give(made, &sealed)?;
        self.given = Some((Instant::now(), sealed));
        self.reported = Some((Instant::now(), report));
        // A collector that is there takes it within moments.
        Ok(LOOK / 5)
    }

    fn fail(&mut self, error: &io::Error) {
        let problem = error.to_string();
        if self.problem.as_ref() != Some(&problem) {
            tracing::warn!("the collector gets no batches; the event log keeps what is for it: {problem}");
        }
        self.problem = Some(problem);
        self.carrier = None;
    }
}

/// Whether a report says what nobody should wait a minute for. Counters alone are not.
fn says_more(last: &Report, new: &Report) -> bool {
    let without_counts = |report: &Report| Report {
        denied: Vec::new(),
        unenforced_seconds: 0,
        verified: None,
        ..report.clone()
    };
    without_counts(last) != without_counts(new)
}

/// The log up to its last checkpoint; none before its first.
fn reader(log: &Path) -> io::Result<Option<Reader>> {
    if !log.join("checkpoint").try_exists()? {
        return Ok(None);
    }
    Reader::open(log).map(Some).map_err(io::Error::other)
}
