//! When to stop early: an interrupt, or the time is over. Asked between bounded steps, so that every guard runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The reasons to stop early.
pub struct Stop {
    interrupted: Arc<AtomicBool>,
    deadline: Instant,
    limit: Duration,
}

impl Stop {
    /// From now on SIGINT, SIGTERM and SIGHUP are only noted.
    pub fn new(limit: Duration) -> Result<Stop> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        Ok(Stop { interrupted, deadline: Instant::now() + limit, limit })
    }

    /// Fails if it is time to stop.
    pub fn check(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted; everything made was removed");
        }
        if Instant::now() > self.deadline {
            bail!("not done after {} s; everything made was removed", self.limit.as_secs());
        }
        Ok(())
    }
}
