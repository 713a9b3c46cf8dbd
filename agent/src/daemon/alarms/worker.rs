//! The thread that looks each second, tells, and keeps what is on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::event::{Alarm, Kind};
use bulkhead_api::text::plain;

use super::sessions::Sessions;
use super::telling::{Outside, Remembered, Telling};
use super::{Alarms, Cause, FILE, respond, seconds};
use crate::config;
use crate::daemon::clock::boot_time;
use crate::daemon::events::control;
use crate::daemon::events::timestamp;
use crate::daemon::expiry::Watch;
use crate::daemon::state::Enforcer;
use crate::daemon::threads;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Seconds between two looks at sessions' counters; shorter where windows are.
const COUNTERS: u64 = 10;

/// How long the event log is waited for before it is known whether alarms are in it.
const LOGGED: Duration = Duration::from_millis(200);

/// How long an agent that ends waits for the last look.
const LAST: Duration = Duration::from_secs(1);

/// Looks, until it is dropped.
pub struct Alerting {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Alerting {
    /// Tells of what was raised last; not while the disk hangs.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        threads::wait(&self.thread, LAST);
    }
}

impl Drop for Alerting {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

struct Worker {
    enforcer: Arc<Enforcer>,
    alarms: Arc<Alarms>,
    settings: config::Alarms,
    sessions: Sessions,
    telling: Telling,
    expiry: Watch,
    /// When sessions were looked at, s.
    counters: u64,
}

impl Alerting {
    /// Begins to look, on a thread of its own.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start(enforcer: &Arc<Enforcer>) -> anyhow::Result<Option<Self>> {
        let Some((alarms, settings)) =
            enforcer.shared.alarms.clone().zip(enforcer.setup.config.alarms.clone())
        else {
            return Ok(None);
        };
        let is_over = Arc::<AtomicBool>::default();
        let mut sessions = Sessions::new(settings.session, seconds());
        for active in alarms.active() {
            if let Cause::SessionRate { rule } = active.cause {
                sessions.take_up(&rule);
            }
        }
        let (enforcer, ended) = (enforcer.clone(), is_over.clone());
        let telling = Telling::default();
        let mut worker =
            Worker { enforcer, alarms, settings, sessions, telling, expiry: Watch::default(), counters: 0 };
        let run = move || {
            while !ended.load(Ordering::Relaxed) {
                worker.look();
                std::thread::park_timeout(LOOK);
            }
            worker.tell();
        };
        let thread = std::thread::Builder::new()
            .name("alarms".to_owned())
            .spawn(run)
            .context("starting the thread for alarms")?;
        Ok(Some(Self { is_over, thread }))
    }
}

impl Worker {
    fn look(&mut self) {
        if self.enforcer.live().detached {
            return;
        }
        self.alarms.tick();
        let now = seconds();
        self.expiry.run(&self.enforcer, self.settings.expiry);
        if now >= self.counters + COUNTERS.min(self.settings.session.seconds.div_ceil(6)) {
            self.counters = now;
            self.look_at_sessions(now);
        }
        if let Some(response) = &self.settings.quarantine {
            self.alarms.prove(respond::proven(&self.enforcer, response));
            for denied in self.alarms.take_denied() {
                respond::respond(&self.enforcer, &self.alarms, response, &denied);
            }
        }
        self.tell();
    }

    fn look_at_sessions(&mut self, now: u64) {
        let (counts, numbers) = {
            let live = self.enforcer.live();
            let numbers = live.built.watched.sessions.clone();
            if numbers.is_empty() {
                return;
            }
            (live.built.counts(self.enforcer.pins(), &live.folded), numbers)
        };
        // Counters that cannot be read are in the status.
        let counts = counts.unwrap_or_default().into_iter();
        let of_sessions = counts.filter(|count| numbers.contains(&count.rule.number));
        self.sessions.look(&self.alarms, of_sessions, now);
    }

    fn tell(&mut self) {
        let mut outside =
            OfAgent { enforcer: &self.enforcer, generation: control::generation(&self.enforcer) };
        self.telling.tell(&self.alarms, &mut outside);
    }
}

/// The agent's event log and state directory.
struct OfAgent<'a> {
    enforcer: &'a Enforcer,
    generation: u32,
}

impl Outside for OfAgent<'_> {
    fn publish(&mut self, mut alarm: Alarm) {
        alarm.generation = self.generation;
        let detail = plain(&alarm.detail);
        tracing::warn!(alarm = alarm.alarm.name(), state = alarm.state.name(), "{detail}");
        self.enforcer.shared.tell(timestamp(boot_time()), Kind::Alarm(Box::new(alarm)));
    }

    fn is_logged(&mut self) -> bool {
        self.enforcer.shared.hub.flush(LOGGED)
    }

    fn save(&mut self, remembered: &Remembered) -> anyhow::Result<()> {
        self.enforcer.store.save(FILE, remembered)
    }
}
