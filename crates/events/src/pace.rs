//! How far ahead of the event log its sources run.

use std::time::{Duration, Instant};

use crate::hub::EventHub;

/// Events that a source may be ahead of the event log, before it waits.
const AHEAD: u64 = 1024;

/// How long one wait may take: an event log that has not caught up by then is too slow to be waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// Between two looks.
const LOOK: Duration = Duration::from_micros(200);

/// One source's pace. It waits for the event log while that keeps up, so that a burst fills no queue; a log that
/// stands still, or writes less than some thousand events a second, holds nobody up.
#[derive(Debug, Default)]
pub struct Pace {
    is_slow: bool,
}

impl Pace {
    /// Waits until the event log has nearly caught up, if that is worth it.
    pub fn wait(&mut self, hub: &EventHub) {
        if self.is_slow {
            self.is_slow = hub.behind() > AHEAD / 2;
            return;
        }
        if hub.behind() < AHEAD {
            return;
        }
        let began = Instant::now();
        while hub.behind() > AHEAD / 2 {
            if began.elapsed() >= PATIENCE {
                self.is_slow = true;
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}
