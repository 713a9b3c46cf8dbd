//! The thread that looks each second, tells, and keeps what is on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::event::Kind;

use super::sessions::Sessions;
use super::{Active, Alarms, Cause, FILE, expiry, respond, seconds};
use crate::config;
use crate::daemon::clock::{boot_time, wall_time};
use crate::daemon::events::control;
use crate::daemon::events::timestamp;
use crate::daemon::state::Enforcer;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Seconds between two looks at what expires.
const EXPIRY: u64 = 60;

/// Seconds between two looks at sessions' counters; shorter where windows are.
const COUNTERS: u64 = 10;

/// Looks, until it is dropped.
pub struct Alerting(Arc<AtomicBool>);

impl Drop for Alerting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Worker {
    enforcer: Arc<Enforcer>,
    alarms: Arc<Alarms>,
    settings: config::Alarms,
    sessions: Sessions,
    /// What is on, as the file has it.
    saved: Vec<Active>,
    /// When something was looked at, s.
    expiry: Option<u64>,
    counters: u64,
    /// The refusal that was told last: it is told once.
    told: Option<String>,
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
        let saved = alarms.active();
        let mut sessions = Sessions::new(settings.session, seconds());
        for active in &saved {
            if let Cause::SessionRate { rule } = &active.cause {
                sessions.take_up(rule);
            }
        }
        let (enforcer, ended) = (enforcer.clone(), is_over.clone());
        let mut worker =
            Worker { enforcer, alarms, settings, sessions, saved, expiry: None, counters: 0, told: None };
        let run = move || {
            while !ended.load(Ordering::Relaxed) {
                worker.look();
                std::thread::sleep(LOOK);
            }
        };
        std::thread::Builder::new()
            .name("alarms".to_owned())
            .spawn(run)
            .context("starting the thread for alarms")?;
        Ok(Some(Self(is_over)))
    }
}

impl Worker {
    fn look(&mut self) {
        if self.enforcer.live().detached {
            return;
        }
        self.alarms.tick();
        let now = seconds();
        if self.expiry.is_none_or(|looked| now >= looked + EXPIRY) {
            self.expiry = Some(now);
            self.look_at_deadlines();
        }
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

    fn look_at_deadlines(&self) {
        let (rules, inventory) = {
            let live = self.enforcer.live();
            (live.built.watched.expiring.clone(), live.built.inventory.clone())
        };
        let node = &self.enforcer.setup.options.node;
        expiry::look(&self.alarms, &rules, &inventory, node, wall_time());
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

    /// Tells of what is new, and keeps what is on.
    fn tell(&mut self) {
        let generation = control::generation(&self.enforcer);
        for mut alarm in self.alarms.take() {
            alarm.generation = generation;
            tracing::warn!(alarm = alarm.alarm.name(), state = alarm.state.name(), "{}", alarm.detail);
            self.enforcer.shared.tell(timestamp(boot_time()), Kind::Alarm(Box::new(alarm)));
        }
        let active = self.alarms.active();
        if active == self.saved {
            return;
        }
        match self.enforcer.store.save(FILE, &active) {
            Ok(()) => (self.saved, self.told) = (active, None),
            Err(error) => {
                let words = format!("keeping which alarms are on; it is tried again: {error:#}");
                if self.told.as_ref() != Some(&words) {
                    tracing::error!("{words}");
                    self.told = Some(words);
                }
            }
        }
    }
}
