//! Reads the kernel's ring, on a thread that waits for nothing else.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_abi::{EVENT_AUDIT, EVENT_ODD, Event, KIND_ALLOWED, KIND_STAGED};
use bulkhead_api::event::{Counted, Timestamp};

use crate::enrich::{Enricher, Packets};
use crate::generations::{Generations, Lookup};
use crate::hub::{EventHub, Ticket};
use crate::pace::Pace;
use crate::ring::Ring;
use crate::sink::Origin;

/// Between two looks while records are held that the kernel tells no news beyond. In a flood each wakes all sinks, and
/// a ring of the usual size has room for what 100 CPUs report meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// Between two looks without news.
const IDLE: Duration = Duration::from_secs(1);

/// Records that are read before those that the event log has are given back.
const BATCH: usize = 256;

/// Publishes what a ring tells of.
pub struct Reader {
    ring: Ring,
    hub: Arc<EventHub>,
    names: Arc<Generations>,
    /// Turns ns since boot into a time.
    clock: fn(u64) -> Timestamp,
    pace: Pace,
    /// Records that are held: when the event log has them, and where they end.
    held: VecDeque<(Ticket, u64)>,
    /// The least that the ring has had in it: what an earlier agent has left is no reason to hurry.
    least: u64,
}

impl Reader {
    /// Reads a ring from where an agent that was killed has told of it.
    #[must_use]
    pub fn new(
        mut ring: Ring,
        hub: Arc<EventHub>,
        names: Arc<Generations>,
        clock: fn(u64) -> Timestamp,
    ) -> Self {
        let mut told = None;
        while let Some(record) = ring.next_record() {
            if hub.left().is_last_event(record) {
                told = Some(ring.cursor());
            }
        }
        ring.rewind();
        if let Some(position) = told {
            ring.release(position);
            ring.rewind();
        }
        let least = ring.used();
        Self { ring, hub, names, clock, pace: Pace::default(), held: VecDeque::new(), least }
    }

    /// Publishes what comes, for ever.
    ///
    /// # Errors
    /// If the ring cannot be waited for.
    pub fn run(mut self) -> io::Result<Infallible> {
        loop {
            let has_more = self.read();
            self.give_back();
            if has_more {
                continue;
            }
            if self.held.is_empty() && self.ring.used() == 0 {
                self.ring.wait(IDLE)?;
            } else {
                std::thread::sleep(LOOK);
            }
        }
    }

    /// Publishes what is there now, and waits until the event log has it, within a limit; whether it has.
    pub fn drain(mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        loop {
            let has_more = self.read();
            self.give_back();
            if !has_more && self.held.is_empty() && self.ring.used() == 0 {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            if !has_more {
                std::thread::sleep(LOOK);
            }
        }
    }

    /// Publishes some records; whether there may be more at once.
    pub(crate) fn read(&mut self) -> bool {
        for _ in 0..BATCH {
            self.least = self.least.min(self.ring.used());
            let (ring, least) = (&self.ring, self.least);
            self.pace.wait(&self.hub, || is_crowded(ring, least));
            let (begins, must) = (ring.cursor(), is_crowded(ring, least));
            let Some(record) = self.ring.next_record() else { return false };
            let Some(event) = read_event(record) else {
                tracing::error!(bytes = record.len(), "event of an unknown layout in the ring: skipped");
                continue;
            };
            // Events of a generation whose names are being made wait in the ring, unless that gets crowded.
            let Some((names, enforced)) = names_of(&self.names, &event, must) else {
                self.ring.rewind_to(begins);
                return false;
            };
            let packets = Packets {
                count: 1,
                bytes: event.length.into(),
                source_port: Some(event.source_port),
                is_odd: event.flags & EVENT_ODD != 0,
                is_audit: Some(event.flags & EVENT_AUDIT != 0),
            };
            let origin = Origin::Ring(record.to_vec());
            let kind = if event.key.kind == KIND_ALLOWED {
                names.allowed(&event.key, packets, event.one_in)
            } else {
                names.kind(&event.key, packets, enforced.as_deref())
            };
            let ticket = self.hub.publish((self.clock)(event.time), kind, Counted::Events, origin);
            self.held.push_back((ticket, self.ring.cursor()));
        }
        true
    }

    /// Gives records back that the event log has; where it stands still, all but half of the ring.
    fn give_back(&mut self) {
        let mut position = None;
        while let Some((ticket, end)) = self.held.front().copied() {
            let released = position.unwrap_or_else(|| self.ring.cursor() - self.ring.held());
            if !self.hub.has(ticket) && self.ring.cursor() - released <= self.ring.size() / 2 {
                break;
            }
            position = Some(end);
            self.held.pop_front();
        }
        // What was skipped has no ticket.
        if self.held.is_empty() {
            position = Some(self.ring.cursor());
        }
        if let Some(position) = position {
            self.ring.release(position);
        }
    }
}

/// Whether the ring fills up.
fn is_crowded(ring: &Ring, least: u64) -> bool {
    ring.used() > least.max(ring.size() / 4 * 3)
}

/// The names of the generation that decided, and of the enforced one where the staged one did; none yet.
fn names_of(
    names: &Generations,
    event: &Event,
    must: bool,
) -> Option<(Arc<Enricher>, Option<Arc<Enricher>>)> {
    let look_up = |generation| match names.look_up(generation) {
        Lookup::Known(names) | Lookup::Unknown(names) => Some(names),
        Lookup::Pending => must.then(|| names.known(generation)),
    };
    let is_staged = event.key.kind == KIND_STAGED;
    let enforced = if is_staged { Some(look_up(event.key.other_generation)?) } else { None };
    Some((look_up(event.key.generation)?, enforced))
}

fn read_event(bytes: &[u8]) -> Option<Event> {
    if bytes.len() != size_of::<Event>() {
        return None;
    }
    // SAFETY: as many bytes as an event has, every bit pattern of which is one.
    Some(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() })
}
