//! How far ahead of sinks their sources run.

use std::time::{Duration, Instant};

use crate::hub::EventHub;
use crate::queue::Queue;

/// Events that a source may be ahead of a sink before it waits.
const AHEAD: u64 = 1024;

/// How long a sink that has fallen behind is waited for, for which time other sinks wait, too.
const CATCH_UP: Duration = Duration::from_millis(100);

/// How long a full queue is waited for.
const ROOM: Duration = Duration::from_secs(1);

/// Between two looks.
const LOOK: Duration = Duration::from_micros(200);

/// One source's pace. It waits for the sinks that keep up, so that a burst fills no queue; one that stands still,
/// or takes less than some hundred events a second, holds nobody up.
#[derive(Debug, Default)]
pub struct Pace {
    states: Vec<State>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The sink keeps up.
    #[default]
    Even,
    /// It has fallen behind: its queue takes what comes, and is waited for once it is full.
    Behind,
    /// It has made no room in time, and is not waited for before half of its queue is empty.
    Stuck,
}

impl Pace {
    /// Waits for the sinks, if that is worth it and the source is not `crowded` meanwhile.
    pub fn wait(&mut self, hub: &EventHub, crowded: impl Fn() -> bool) {
        self.states.resize(hub.queues().count(), State::Even);
        for (state, queue) in self.states.iter_mut().zip(hub.queues()) {
            *state = state.next(queue, &crowded);
        }
    }
}

impl State {
    fn next(self, queue: &Queue, crowded: impl Fn() -> bool) -> Self {
        let (behind, room) = (queue.behind(), queue.room());
        match self {
            Self::Stuck if behind > room / 2 => Self::Stuck,
            _ if behind <= AHEAD / 2 => Self::Even,
            Self::Even if behind < AHEAD => Self::Even,
            Self::Even if is_at_most(AHEAD / 2, queue, CATCH_UP, &crowded) => Self::Even,
            _ if behind < room => Self::Behind,
            _ if is_at_most(room - room / 16, queue, ROOM, &crowded) => Self::Behind,
            _ => Self::Stuck,
        }
    }
}

/// Waits until a sink is so many events behind at most; whether it is.
fn is_at_most(events: u64, queue: &Queue, limit: Duration, crowded: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while queue.behind() > events {
        if began.elapsed() >= limit || crowded() {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}
