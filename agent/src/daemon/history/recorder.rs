//! The thread that looks, and writes once a minute.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_api::status::RuleCount;
use bulkhead_dataplane::{FlowTable, flow_clock};
use bulkhead_events::Enricher;
use bulkhead_history::{Batch, DAY, End, Error, History, Use, Verdict};
use bulkhead_host::clock::ClockState;

use super::FILE;
use super::look::{Talk, look};
use super::opening::Opening;
use super::recent::Recent;
use super::rules::{Known, Rules};
use crate::config;
use crate::daemon::alarms::{Cause, Found, label};
use crate::daemon::clock::wall_time;
use crate::daemon::state::Enforcer;

/// Between two transactions.
pub(super) const WRITE: Duration = Duration::from_secs(60);

/// The longest that the thread sleeps at a time.
const NAP: Duration = Duration::from_millis(500);

/// How long an agent that ends waits for the thread.
const LAST: Duration = Duration::from_secs(1);

/// Bytes of the file for each kind of drop: its row of the day, that of all days, and its ends.
const BYTES_A_DROP: u64 = 160;

/// Of the file's bound, one part in so many is for drops of one day.
const DAYS_OF_DROPS: u64 = 8;

/// Kinds that wait for a disk that refuses.
const WAITING: usize = 100_000;

/// Records who uses which rule.
pub struct Recorder {
    work: Arc<Mutex<Work>>,
    is_over: Arc<AtomicBool>,
}

struct Work {
    enforcer: Arc<Enforcer>,
    recent: Arc<Recent>,
    settings: config::History,
    path: PathBuf,
    /// None: the disk refused, or it was not opened yet.
    history: Option<History>,
    /// What is not written yet.
    batch: Batch,
    known: Known,
    /// The generation whose rules were noted last.
    noted: Option<u32>,
    /// When the look before began, ns of the flow clock.
    looked: u64,
    /// The refusal that was told last: it is told once.
    told: Option<String>,
    opening: Opening,
    /// The agent ends: nothing is written later.
    is_last: bool,
}

impl Recorder {
    /// Begins to record, on a thread of its own.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start(enforcer: &Arc<Enforcer>) -> anyhow::Result<Option<Self>> {
        let Some((settings, recent)) = enforcer.setup.config.history.zip(enforcer.shared.recent.clone())
        else {
            return Ok(None);
        };
        let work = Work {
            enforcer: enforcer.clone(),
            recent,
            settings,
            path: enforcer.setup.paths.state.join(FILE),
            history: None,
            batch: Batch::default(),
            known: Known::default(),
            noted: None,
            // What was over before an agent began is no use of today.
            looked: flow_clock(),
            told: None,
            opening: Opening::default(),
            is_last: false,
        };
        let recorder = Self { work: Arc::new(Mutex::new(work)), is_over: Arc::default() };
        let (work, is_over) = (recorder.work.clone(), recorder.is_over.clone());
        let run = move || run(&work, &is_over);
        thread::Builder::new()
            .name("history".to_owned())
            .spawn(run)
            .context("starting the thread for history")?;
        Ok(Some(recorder))
    }

    /// Looks once more and writes what is left; not while the disk hangs.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        let began = Instant::now();
        while began.elapsed() < LAST {
            if let Ok(mut work) = self.work.try_lock() {
                work.is_last = true;
                work.record();
                // Closed, the file is whole without its log.
                work.history = None;
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn held(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(work: &Mutex<Work>, is_over: &AtomicBool) {
    let interval = Duration::from_secs(held(work).settings.flows_seconds);
    let (mut looked, mut wrote) = (Instant::now(), Instant::now());
    // Rules are known from now on, not from the first minute on.
    held(work).record();
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(NAP.min(interval));
        if looked.elapsed() >= interval {
            looked = Instant::now();
            held(work).look();
        }
        if wrote.elapsed() >= WRITE {
            wrote = Instant::now();
            held(work).write();
        }
    }
}

impl Work {
    fn record(&mut self) {
        self.look();
        self.write();
    }

    fn look(&mut self) {
        if let Err(error) = self.try_look() {
            self.tell(&error.context("looking at who uses which rule"));
        }
    }

    fn try_look(&mut self) -> anyhow::Result<()> {
        // Counters first: a packet that they count has its flow in the table by now.
        let (counts, generation, rules, names) = {
            let live = self.enforcer.live();
            if live.detached {
                return Ok(());
            }
            let built = &live.built;
            let make = || Rules::new(&built.fingerprints, built.names.rules());
            let rules = self.known.of(built.number, make);
            let counts = built.counts(self.enforcer.pins(), &live.folded)?;
            (counts, built.number, rules, built.names.clone())
        };
        let (now, began) = (wall_time() / 1_000_000_000, flow_clock());
        let table = FlowTable::open(&self.enforcer.pins().state("FLOWS"))?;
        let talks = look(&table, &self.enforcer.setup.config.timeouts, self.looked, began);
        self.looked = began;
        for talk in talks {
            let of = self.used(&talk, &names);
            self.batch.add(of, 1, now);
        }
        if self.noted != Some(generation) {
            self.batch.rules = Some(rules.notes().to_vec());
            self.noted = Some(generation);
        }
        let by_rule = |count: &RuleCount| Some((rules.by_number(count.rule.number)?.clone(), count.packets));
        self.batch.counters = counts.iter().filter_map(by_rule).collect();
        self.batch.looks += 1;
        Ok(())
    }

    fn used(&mut self, talk: &Talk, names: &Enricher) -> Use {
        let rule = talk.rule.and_then(|(generation, cell)| self.rules(generation).by_cell(cell).cloned());
        let end = |address| {
            let end = names.end(address);
            // An address behind a node is not the node.
            End { name: end.name.filter(|_| end.route.is_none()), address: Some(address) }
        };
        let (source, destination) = talk
            .ends
            .map_or((End::UNKNOWN, End::UNKNOWN), |(source, destination)| (end(source), end(destination)));
        let verdict = if talk.rule.is_some() { Verdict::Allowed } else { Verdict::Audited };
        Use { rule, source, destination, port: talk.port, protocol: talk.protocol, verdict }
    }

    /// The rules of a generation, from what was kept of it.
    fn rules(&mut self, generation: u32) -> Arc<Rules> {
        let (store, names) = (&self.enforcer.store, &self.enforcer.shared.names);
        self.known.of(generation, || {
            names.wait(&BTreeSet::from([generation]));
            Rules::new(&store.fingerprints(generation), names.known(generation).rules())
        })
    }

    /// Writes what there is. What the disk refuses is written later.
    fn write(&mut self) {
        for (dropped, seen) in self.recent.take() {
            let rule = dropped
                .rule
                .and_then(|(generation, number)| self.rules(generation).by_number(number).cloned());
            let of = Use {
                rule,
                source: dropped.source,
                destination: dropped.destination,
                port: dropped.port,
                protocol: dropped.protocol,
                verdict: dropped.verdict,
            };
            self.batch.add(of, seen.count, seen.last);
        }
        if self.history.is_none() && !self.opening.is_due(Instant::now()) {
            self.forget_too_many();
            return;
        }
        if let Err(error) = self.try_write() {
            self.tell(&error.context("recording who uses which rule; it is tried again"));
            self.forget_too_many();
        }
    }

    /// What a disk has refused for too long is given up.
    fn forget_too_many(&mut self) {
        if self.batch.uses.len() > WAITING {
            tracing::error!(
                kinds = self.batch.uses.len(),
                "history is lost: the disk refuses it for too long"
            );
            self.batch = Batch::default();
            self.noted = None;
        }
    }

    fn try_write(&mut self) -> anyhow::Result<()> {
        let now = wall_time() / 1_000_000_000;
        let mut history = match self.history.take() {
            Some(history) => history,
            None => self.open(now).inspect_err(|_| self.opening.refused(Instant::now()))?,
        };
        let written = self.write_to(&mut history, now);
        // A full disk may have room again; a damaged file is opened anew, and set aside then.
        let is_damaged = |error: &anyhow::Error| error.downcast_ref().is_some_and(Error::is_damage);
        if !written.as_ref().is_err_and(is_damaged) {
            self.history = Some(history);
        }
        written?;
        self.told = None;
        Ok(())
    }

    fn write_to(&mut self, history: &mut History, now: u64) -> anyhow::Result<()> {
        if !self.batch.is_empty() {
            // The file says that a rule is used once its alarm is told: killed in between, the next agent still tells.
            if self.tell_idle(history, now)? && !self.is_last {
                return Ok(());
            }
            history.write(&self.batch, now)?;
            self.batch = Batch::default();
        }
        let is_synchronized = ClockState::now().discipline.is_some_and(|clock| clock.synchronized);
        let kept = history.keep(self.settings.days, self.settings.bytes, now, is_synchronized)?;
        if kept.expired > 0 {
            let (rows, days) = (kept.expired, self.settings.days);
            tracing::info!(rows, days, "history: days older than it is kept for are forgotten");
        }
        if kept.shed > 0 {
            tracing::warn!(
                rows = kept.shed,
                "history: the oldest days are given up, since it reached its size"
            );
        }
        let most = self.settings.bytes / DAYS_OF_DROPS / BYTES_A_DROP;
        self.recent.set_full(kept.is_full || kept.drops_today >= most);
        Ok(())
    }

    /// Raises alarms of rules that are used after a long time without; whether there are new ones.
    fn tell_idle(&self, history: &mut History, now: u64) -> anyhow::Result<bool> {
        let shared = &self.enforcer.shared;
        let Some((alarms, settings)) = shared.alarms.as_ref().zip(self.enforcer.setup.config.alarms.as_ref())
        else {
            return Ok(false);
        };
        let mut is_new = false;
        let idle = settings.idle_days * DAY;
        let again = history.used_again(&self.batch, now)?;
        for again in again.into_iter().filter(|again| again.now.saturating_sub(again.before) >= idle) {
            let live = self.enforcer.live();
            let names = live.built.names.clone();
            let place = live.built.fingerprints.iter().position(|print| *print == again.fingerprint);
            drop(live);
            let Some(rule) = place.and_then(|place| names.rules().get(place)) else { continue };
            let is_by = |of: &&Use| of.rule.as_ref() == Some(&again.fingerprint);
            let by = self.batch.uses.keys().find(is_by);
            let end = |end: Option<&End>| end.and_then(|end| end.address).map(|address| names.end(address));
            let (source, destination) = (end(by.map(|of| &of.source)), end(by.map(|of| &of.destination)));
            let (title, days) = (rule.title(), (again.now - again.before) / DAY);
            let who = source.as_ref().map(|end| format!(" by {}", label(end))).unwrap_or_default();
            let words = format!("{title} was used{who}, for the first time in {days} days");
            let cause = Cause::IdleRule { rule: rule.clone(), source, destination };
            is_new |= alarms.raise(&Found::plain(cause, words));
        }
        Ok(is_new)
    }

    fn open(&mut self, now: u64) -> anyhow::Result<History> {
        let (history, aside) = History::open(&self.path, &self.enforcer.setup.options.node, now)?;
        if let Some(aside) = aside {
            let (path, why) = (aside.path.display(), aside.why);
            tracing::error!("history was damaged ({why}); it is at {path} now, and a new one begins");
        }
        (self.noted, self.opening) = (None, Opening::default());
        Ok(history)
    }

    /// Tells of a refusal once.
    fn tell(&mut self, error: &anyhow::Error) {
        let words = format!("{error:#}");
        if self.told.as_ref() != Some(&words) {
            tracing::error!("{words}");
            self.told = Some(words);
        }
    }
}
