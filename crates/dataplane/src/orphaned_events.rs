//! What tables that are replaced still tell of drops: read where their layout is known, else counted.

use std::path::{Path, PathBuf};

use aya::maps::{MapData, RingBuf};
use bulkhead_abi::{AggregateKey, AggregateValue};

use super::state::{self, Aggregates};
use super::{KernelError, batch};

/// Layouts whose aggregates have other keys, and values that mean the same as this one's; and whose
/// losses are those of the ring alone.
const ALIKE: &[u32] = &[1];

/// What the old tables still hold of drops.
#[derive(Default)]
pub struct OrphanedEvents {
    /// Events that nobody has read.
    pub events: Vec<RingBuf<MapData>>,
    /// Each with whether it is the odd one.
    aggregates: Vec<(Aggregates, bool)>,
    /// What cannot be read.
    pub unread: Unreadable,
}

/// Reports that another map ABI's tables held and that this agent does not understand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// Events.
    pub events: u64,
    /// Kinds of drops that were counted together.
    pub kinds: u64,
    /// How many drops those kinds counted, as far as the layouts' values are known.
    pub aggregated: u64,
    /// Some layout's are not: there are more.
    pub is_at_least: bool,
    /// Drops that the layout's own programs could not tell of, and had counted.
    pub lost: u64,
}

/// A table of an unknown map ABI.
#[derive(Debug)]
pub(super) struct Unknown {
    pub(super) map: &'static str,
    pub(super) path: PathBuf,
    pub(super) version: u32,
}

impl OrphanedEvents {
    /// Takes all drops that were counted together out of the tables, those of each once `take` is done with them.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn take_aggregates(
        &mut self,
        mut take: impl FnMut(&[(AggregateKey, AggregateValue)], bool),
    ) -> Result<(), KernelError> {
        let mut tables = self.aggregates.iter_mut();
        tables.try_for_each(|(table, is_odd)| state::empty(table, |entries| take(entries, *is_odd)))
    }

    /// Adds a table of this layout.
    pub(super) fn add(&mut self, map: &str, path: &Path) -> Result<(), KernelError> {
        match map {
            "EVENTS" => self.events.push(state::ring(path)?),
            "AGGREGATES_0" | "AGGREGATES_1" => {
                self.aggregates.push((state::aggregates(path)?, map == "AGGREGATES_1"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Counts what a table of another map ABI holds.
    pub(super) fn count(&mut self, unknown: &Unknown) -> Result<(), KernelError> {
        let Unknown { map, path, version } = unknown;
        let unread = &mut self.unread;
        let is_alike = ALIKE.contains(version);
        match *map {
            "EVENTS" => {
                let mut ring = state::ring(path)?;
                // The kernel frames what is in a ring, whatever it means.
                while ring.next().is_some() {
                    unread.events += 1;
                }
            }
            "AGGREGATES_0" | "AGGREGATES_1" => batch::read_bytes(&open(path)?, |_, value| {
                unread.kinds += 1;
                match value.first_chunk() {
                    Some(packets) if is_alike => unread.aggregated += u64::from_ne_bytes(*packets),
                    _ => unread.is_at_least = true,
                }
            })?,
            "LOST_EVENTS" if is_alike => unread.lost += state::lost(path)?,
            _ => {}
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<MapData, KernelError> {
    MapData::from_pin(path).map_err(KernelError::refused(format!("{}: opening it", path.display())))
}
