//! How many drops were told of, and what was lost on the way to the event log.

use serde::{Deserialize, Serialize};

/// What became of events, over this agent and those before it. Drops of the programs = `events` + `aggregated` +
/// what the kernel counts as lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventStats {
    /// Drops that each have an event of their own.
    pub events: u64,
    /// Drops that summaries tell of.
    pub aggregated: u64,
    /// Events in the event log.
    pub written: u64,
    /// Events that the event log could not take.
    pub unwritten: u64,
    /// Drops that those tell of.
    pub unwritten_drops: u64,
    /// Of these drops, the guard's.
    #[serde(default)]
    pub unwritten_guard: u64,
    /// Of the drops told of, those in the account of odd turns.
    #[serde(default)]
    pub odd: u64,
    /// Of these, those that events not written tell of.
    #[serde(default)]
    pub unwritten_odd: u64,
    /// Of the events not written: those for which the log's queue had no room, since the disk was slow or hung.
    #[serde(default)]
    pub overflowed: u64,
    /// The guard's drops that each have an event of their own.
    #[serde(default)]
    pub guard_logged: u64,
    /// The guard's drops that summaries tell of.
    #[serde(default)]
    pub guard_counted: u64,
    /// Events that watchers were too slow for, since the agent started; the event log has them.
    #[serde(default)]
    pub missed_by_watchers: u64,
}

/// Which number of [`EventStats`] an event's drops are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// [`EventStats::events`]; events that tell of no drop as well.
    Events,
    /// [`EventStats::aggregated`].
    Aggregated,
    /// [`EventStats::guard_logged`].
    GuardLogged,
    /// [`EventStats::guard_counted`].
    GuardCounted,
}

impl Counted {
    /// Whether they are the guard's drops, and not the programs'.
    #[must_use]
    pub const fn is_guards(self) -> bool {
        matches!(self, Self::GuardLogged | Self::GuardCounted)
    }
}

impl EventStats {
    /// Drops of the programs in the account of even or of odd turns: those that records in the event log tell of, and
    /// those that were told of and are not there.
    #[must_use]
    pub const fn told(&self, is_odd: bool) -> (u64, u64) {
        if is_odd {
            return (self.odd.saturating_sub(self.unwritten_odd), self.unwritten_odd);
        }
        let unwritten = self.unwritten_drops.saturating_sub(self.unwritten_guard + self.unwritten_odd);
        let all = (self.events + self.aggregated).saturating_sub(self.odd);
        (all.saturating_sub(unwritten), unwritten)
    }

    /// The number that drops are counted in.
    pub fn count(&mut self, counted: Counted) -> &mut u64 {
        match counted {
            Counted::Events => &mut self.events,
            Counted::Aggregated => &mut self.aggregated,
            Counted::GuardLogged => &mut self.guard_logged,
            Counted::GuardCounted => &mut self.guard_counted,
        }
    }
}
