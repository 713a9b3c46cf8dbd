//! Events, from the kernel's ring to sinks.
//!
//! ```text
//! ring ──reader──┐                         ┌─ queue ─ thread ─ event log
//! summaries ─────┼─ Enricher ─ EventHub ───┼─ queue ─ thread ─ any other Sink
//! guard, agent ──┘   (names by generation) └─ backlog of each watcher
//! ```
//!
//! Publishing never waits for a sink. A sink has a thread and a queue of its own; what its queue has no room for is
//! counted as lost by this sink alone. What the ring holds is given back to the kernel once the event log has
//! it, so that an agent which is killed loses none; where the log stands still, once half of the ring is held.

mod account;
mod enrich;
mod facts;
mod generations;
mod hub;
mod log;
mod pace;
mod queue;
mod reader;
mod ring;
mod sink;

#[cfg(test)]
mod tests;

pub use account::Left;
pub use enrich::{Enricher, Packets};
pub use facts::Facts;
pub use generations::{Generations, Lookup};
pub use hub::{EventHub, Ticket};
pub use log::{DIRECTORY, EventLog, Keep};
pub use pace::Pace;
pub use queue::Counts;
pub use reader::Reader;
pub use ring::Ring;
pub use sink::{Entry, Lost, Origin, Seal, Sink};
