//! What a sink is: one trait.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bulkhead_api::event::{Counted, Event, EventStats, Kind, Timestamp};

/// Takes events, on a thread of its own; it may be as slow as it likes.
pub trait Sink: Send {
    /// Its name, for logs.
    fn name(&self) -> &'static str;

    /// Takes one event.
    ///
    /// # Errors
    /// If it has not got it; it is lost for this sink, and counted.
    fn write(&mut self, entry: &Entry) -> io::Result<()>;

    /// Takes events that wait together, in their order, and says of each what became of it.
    fn write_all(&mut self, entries: &[Arc<Entry>], each: &mut dyn FnMut(io::Result<()>)) {
        entries.iter().for_each(|entry| each(self.write(entry)));
    }

    /// Takes an event that is made when it is written. Only the event log does.
    ///
    /// # Errors
    /// As of [`Self::write`].
    fn seal(&mut self, seal: Seal) -> io::Result<()> {
        drop(seal);
        Ok(())
    }

    /// Is told of events that its queue had no room for, before the next event.
    fn lost(&mut self, lost: &Lost) {
        let _ = lost;
    }

    /// There is nothing to write just now.
    fn idle(&mut self) {}

    /// What was written is to be as safe as it gets.
    fn sync(&mut self) {}

    /// The kernel's counters begin at zero: nothing was enforced before what comes.
    fn begin(&mut self) {}
}

/// Learns what the event log has noted of all events before it, and how many records it has; and makes an event of
/// it, if it likes.
pub type Seal = Box<dyn FnOnce(&EventStats, u64) -> Option<(Timestamp, Kind)> + Send>;

/// An event on its way to a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The event.
    pub event: Event,
    /// What its drops are counted as.
    pub counted: Counted,
    /// Where it is from.
    pub origin: Origin,
}

/// Where an event is from, and what it is there: by this an agent that was killed finds its place again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A record of the kernel's ring.
    Ring(Vec<u8>),
    /// An entry of the kernel's table of drops that are counted together.
    Summary(Vec<u8>),
    /// The agent itself, or the guard.
    Agent,
}

/// Events that a queue had no room for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Events.
    pub events: u64,
    /// Drops that they tell of, by what those are counted as.
    pub drops: BTreeMap<Counted, u64>,
    /// Those of them in the account of odd turns.
    pub odd: u64,
}

impl Lost {
    pub(crate) fn add(&mut self, entry: &Entry) {
        self.events += 1;
        *self.drops.entry(entry.counted).or_default() += entry.event.drops();
        self.odd += entry.event.odd_drops();
    }
}
