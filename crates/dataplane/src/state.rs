//! State that outlives generations: counters, aggregates, the event ring.

use std::path::Path;

use aya::Pod;
use aya::maps::{Array, HashMap, IterableMap as _, Map, MapData, PerCpuArray, RingBuf};
use bulkhead_abi::{
    AggregateKey, AggregateValue, Counter, DIRECTIONS, Direction, LOST_BUDGET, LOST_RING, LOST_STAGED,
    REASONS, TLS_BEGAN, TLS_COUNTS, TLS_PLAINTEXT, TLS_UNVERIFIED, TlsCounts, staged_index, tls_index,
};
use bulkhead_api::status::Losses;
use bulkhead_engine::{Action, Reason};

use super::mapped::Mapped;
use super::{FlowTable, KernelError, Pins, batch, wait_for_programs};

macro_rules! pod {
    ($($name:ident: $layout:ty),*) => {$(
        /// A layout type as aya takes map keys and values.
        #[derive(Clone, Copy, Debug)]
        #[repr(transparent)]
        pub(super) struct $name(pub(super) $layout);
        // SAFETY: repr(C) of plain integers, sizes asserted where the layout is defined.
        unsafe impl Pod for $name {}
    )*};
}
pod!(PodKey: AggregateKey, PodValue: AggregateValue, PodCounter: Counter);

/// A table of drops that are counted together.
pub(super) type Aggregates = HashMap<MapData, PodKey, PodValue>;

/// Packets and bytes by direction and reason, those above zero.
pub type ByReason = Vec<(Direction, Reason, Counter)>;

/// The pinned state of one instance.
pub struct State {
    aggregates: [Aggregates; 2],
    epoch: Array<MapData, u32>,
    /// Of the two accounts: of even turns, and what is not reported at all, such as passes; and of odd ones.
    reasons: [PerCpuArray<MapData, PodCounter>; 2],
    unreported: PerCpuArray<MapData, PodCounter>,
    lost: PerCpuArray<MapData, u64>,
    lost_odd: PerCpuArray<MapData, u64>,
    lost_flows: PerCpuArray<MapData, u64>,
    flows: FlowTable,
    evicted: PerCpuArray<MapData, u64>,
}

fn open(path: &Path) -> Result<MapData, KernelError> {
    MapData::from_pin(path)
        .map_err(KernelError::refused(format!("{}: opening the pinned map", path.display())))
}

/// A pinned ring of events.
pub(super) fn ring(path: &Path) -> Result<RingBuf<MapData>, KernelError> {
    Map::RingBuf(open(path)?)
        .try_into()
        .map_err(KernelError::refused(format!("{}: its type", path.display())))
}

/// A pinned table of aggregates.
pub(super) fn aggregates(path: &Path) -> Result<Aggregates, KernelError> {
    Map::HashMap(open(path)?)
        .try_into()
        .map_err(KernelError::refused(format!("{}: its type", path.display())))
}

/// Empties a table of aggregates that no program adds to any more. They are removed once `take` is done
/// with all of them: what somebody who is killed has not told of is still there. They are taken and removed in
/// one order, so that the last one that was told of is removed last.
pub(super) fn empty(
    table: &mut Aggregates,
    mut take: impl FnMut(&[(AggregateKey, AggregateValue)]),
) -> Result<(), KernelError> {
    let mut entries = Vec::new();
    batch::read(table.map(), |PodKey(key), PodValue(value)| entries.push((key, value)))?;
    entries.sort_unstable_by_key(|(key, _)| *key);
    take(&entries);
    let keys: Vec<_> = entries.into_iter().map(|(key, _)| PodKey(key)).collect();
    batch::remove(table.map(), &keys)
}

/// What a pinned table of losses counts as lost by a full ring.
pub(super) fn lost(path: &Path) -> Result<u64, KernelError> {
    let what = || KernelError::refused(format!("{}: reading it", path.display()));
    let lost: PerCpuArray<MapData, u64> = Map::PerCpuArray(open(path)?).try_into().map_err(what())?;
    Ok(lost.get(&LOST_RING, 0).map_err(what())?.iter().sum())
}

fn typed<T>(pins: &Pins, name: &str, wrap: fn(MapData) -> Map) -> Result<T, KernelError>
where
    T: TryFrom<Map, Error = aya::maps::MapError>,
{
    let path = pins.state(name);
    T::try_from(wrap(open(&path)?)).map_err(KernelError::refused(format!("{}: its type", path.display())))
}

impl State {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// If there are none, or they are of another shape.
    pub fn open(pins: &Pins) -> Result<Self, KernelError> {
        Ok(Self {
            aggregates: [
                typed(pins, "AGGREGATES_0", Map::HashMap)?,
                typed(pins, "AGGREGATES_1", Map::HashMap)?,
            ],
            epoch: typed(pins, "AGGREGATE_EPOCH", Map::Array)?,
            reasons: [
                typed(pins, "REASON_COUNTERS", Map::PerCpuArray)?,
                typed(pins, "REASON_COUNTERS_1", Map::PerCpuArray)?,
            ],
            unreported: typed(pins, "UNREPORTED", Map::PerCpuArray)?,
            lost: typed(pins, "LOST_EVENTS", Map::PerCpuArray)?,
            lost_odd: typed(pins, "LOST_EVENTS_1", Map::PerCpuArray)?,
            lost_flows: typed(pins, "LOST_FLOWS", Map::PerCpuArray)?,
            flows: FlowTable::open(&pins.state("FLOWS"))?,
            evicted: typed(pins, "EVICTED", Map::PerCpuArray)?,
        })
    }

    /// Opens the event ring. There is one reader at a time.
    ///
    /// # Errors
    /// If it is not pinned.
    pub fn events(pins: &Pins) -> Result<RingBuf<MapData>, KernelError> {
        ring(&pins.state("EVENTS"))
    }

    /// Packets and bytes by direction and reason, those above zero. Passes by rule are counted
    /// by rule instead.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn reasons(&self) -> Result<ByReason, KernelError> {
        self.by_reason(&[&self.reasons[0], &self.reasons[1], &self.unreported])
    }

    fn by_reason(&self, tables: &[&PerCpuArray<MapData, PodCounter>]) -> Result<ByReason, KernelError> {
        let mut counts = Vec::new();
        for direction in [Direction::Ingress, Direction::Egress] {
            for &reason in Reason::ALL {
                let index = direction.index() * REASONS + reason as u32;
                debug_assert!(index < DIRECTIONS * REASONS);
                let mut sum = Counter::default();
                for table in tables {
                    sum = plus(sum, counted(table, index)?);
                }
                if sum.packets != 0 {
                    counts.push((direction, reason, sum));
                }
            }
        }
        Ok(counts)
    }

    /// An account: drops that were reported in even or in odd turns, by direction and reason, and how many of them
    /// neither an event nor an aggregate tells of. That of the turns which [`Self::take_aggregates`] has just ended
    /// stands still until it is called again.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn account(&self, is_odd: bool) -> Result<(ByReason, u64), KernelError> {
        let mut drops = self.by_reason(&[&self.reasons[usize::from(is_odd)]])?;
        drops.retain(|(_, reason, _)| reason.action() == Action::Drop);
        // Layout 4 and before counted the budget's in the one account that they had.
        let lost = if is_odd {
            sum(&self.lost_odd)?
        } else {
            self.lost_of(LOST_RING)? + self.lost_of(LOST_BUDGET)?
        };
        Ok((drops, lost))
    }

    /// Drops that are not reported, by direction and reason.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn unreported(&self) -> Result<ByReason, KernelError> {
        self.by_reason(&[&self.unreported])
    }

    fn lost_of(&self, kind: u32) -> Result<u64, KernelError> {
        let counts = self.lost.get(&kind, 0).map_err(KernelError::refused("reading the loss counters"))?;
        Ok(counts.iter().sum())
    }

    /// What neither an event nor an aggregate tells of.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn losses(&self) -> Result<Losses, KernelError> {
        let mut budget = self.lost_of(LOST_BUDGET)?;
        for index in 0..DIRECTIONS * REASONS {
            budget += counted(&self.unreported, index)?.packets;
        }
        let ring = self.lost_of(LOST_RING)? + sum(&self.lost_odd)?;
        let flows = sum(&self.lost_flows)?;
        Ok(Losses { ring, budget, staged: self.lost_of(LOST_STAGED)?, flows })
    }

    /// Tracked flows: unreplied and established, expired ones that were not collected included.
    #[must_use]
    pub fn flow_counts(&self) -> [usize; 2] {
        self.flows.count()
    }

    /// Flows that made room for others before they had expired.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn evicted(&self) -> Result<u64, KernelError> {
        let counts = self.evicted.get(&0, 0).map_err(KernelError::refused("reading evictions"))?;
        Ok(counts.iter().sum())
    }

    /// Whether the table of aggregates in use has so many.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn has_aggregates(&self, least: usize) -> Result<bool, KernelError> {
        let epoch = self.epoch.get(&0, 0).map_err(KernelError::refused("counting aggregates"))?;
        Ok(self.aggregates[(epoch & 1) as usize].keys().take(least).count() == least)
    }

    /// Takes out what an agent that was killed has left of the table that programs have been turned away
    /// from: each as it was then, and whether it is the odd one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn take_left_aggregates(
        &mut self,
        mut take: impl FnMut(&[(AggregateKey, AggregateValue)], bool),
    ) -> Result<(), KernelError> {
        let epoch = self.epoch.get(&0, 0).map_err(KernelError::refused("taking aggregates"))?;
        wait_for_programs()?;
        let is_odd = epoch & 1 == 0;
        empty(&mut self.aggregates[usize::from(is_odd)], |entries| take(entries, is_odd))
    }

    /// Takes all aggregates out of the kernel, exactly: programs are turned to the other table,
    /// those that still use this one are waited for, then it is emptied. Whether the turn that has ended was odd.
    ///
    /// # Errors
    /// If the kernel refuses. What was not taken stays for the next call.
    pub fn take_aggregates(
        &mut self,
        mut take: impl FnMut(&[(AggregateKey, AggregateValue)], bool),
    ) -> Result<bool, KernelError> {
        let what = || KernelError::refused("taking aggregates");
        let epoch = self.epoch.get(&0, 0).map_err(what())?;
        self.epoch.set(0, epoch.wrapping_add(1), 0).map_err(what())?;
        wait_for_programs()?;
        let is_odd = epoch & 1 != 0;
        empty(&mut self.aggregates[usize::from(is_odd)], |entries| take(entries, is_odd))?;
        Ok(is_odd)
    }
}

const fn plus(a: Counter, b: Counter) -> Counter {
    Counter { packets: a.packets + b.packets, bytes: a.bytes + b.bytes }
}

/// A counter, all CPUs together.
/// A counter of one entry, all CPUs together.
fn sum(map: &PerCpuArray<MapData, u64>) -> Result<u64, KernelError> {
    let counts = map.get(&0, 0).map_err(KernelError::refused("reading the loss counters"))?;
    Ok(counts.iter().sum())
}

fn counted(map: &PerCpuArray<MapData, PodCounter>, index: u32) -> Result<Counter, KernelError> {
    let values = map.get(&index, 0).map_err(KernelError::refused("reading counters"))?;
    Ok(values.iter().fold(Counter::default(), |sum, PodCounter(counter)| plus(sum, *counter)))
}

/// Packets and bytes by rule of one generation, all CPUs together.
///
/// # Errors
/// If its tables are not pinned.
pub fn rule_counters(pins: &Pins, generation: u32, rules: usize) -> Result<Vec<Counter>, KernelError> {
    let path = pins.generation(generation).join("RULE_COUNTERS");
    let map: PerCpuArray<MapData, PodCounter> = Map::PerCpuArray(open(&path)?)
        .try_into()
        .map_err(KernelError::refused(format!("{}: its type", path.display())))?;
    let mut counters = Vec::with_capacity(rules);
    for index in 0..u32::try_from(rules).unwrap_or(u32::MAX).min(map.len()) {
        counters.push(counted(&map, index)?);
    }
    Ok(counters)
}

/// How flows of one generation began, by rule, all CPUs together.
///
/// # Errors
/// If its tables are not pinned.
pub fn tls_counters(pins: &Pins, generation: u32, rules: usize) -> Result<Vec<TlsCounts>, KernelError> {
    let path = pins.generation(generation).join("TLS_COUNTERS");
    let map: PerCpuArray<MapData, u64> = Map::PerCpuArray(open(&path)?)
        .try_into()
        .map_err(KernelError::refused(format!("{}: its type", path.display())))?;
    let count = |rule: u32, counter| -> Result<u64, KernelError> {
        let counts = map.get(&tls_index(rule, counter), 0);
        Ok(counts.map_err(KernelError::refused("reading counters"))?.iter().sum())
    };
    let rules = u32::try_from(rules).unwrap_or(u32::MAX).min(map.len() / TLS_COUNTS);
    let of_rule = |rule| {
        Ok(TlsCounts {
            began: count(rule, TLS_BEGAN)?,
            plaintext: count(rule, TLS_PLAINTEXT)?,
            unverified: count(rule, TLS_UNVERIFIED)?,
        })
    };
    (0..rules).map(of_rule).collect()
}

/// Packets that the staged of a generation decided otherwise: those that it would drop, and
/// those that it would let pass, both directions together.
///
/// # Errors
/// If it has none, or the kernel refuses.
pub fn staged_counters(pins: &Pins, generation: u32) -> Result<[Counter; 2], KernelError> {
    let path = pins.generation(generation).join("STAGED_COUNTERS");
    let map: PerCpuArray<MapData, PodCounter> = Map::PerCpuArray(open(&path)?)
        .try_into()
        .map_err(KernelError::refused(format!("{}: its type", path.display())))?;
    let mut counters = [Counter::default(); 2];
    for direction in [Direction::Ingress, Direction::Egress] {
        for would_pass in [false, true] {
            let sum = &mut counters[usize::from(would_pass)];
            *sum = plus(*sum, counted(&map, staged_index(direction, would_pass))?);
        }
    }
    Ok(counters)
}

/// Writes the deadlines of a generation that runs, in ns since boot, from index 1 on; of its
/// staged if `of_staged`.
///
/// # Errors
/// If its tables are not pinned, or hold fewer.
pub fn rewrite_deadlines(
    pins: &Pins,
    generation: u32,
    deadlines: &[u64],
    of_staged: bool,
) -> Result<(), KernelError> {
    if deadlines.len() <= 1 {
        return Ok(());
    }
    let name = if of_staged { "STAGED_DEADLINES" } else { "DEADLINES" };
    let path = pins.generation(generation).join(name);
    let what = || KernelError::refused(format!("{}: writing deadlines", path.display()));
    let map = open(&path)?;
    let mut memory = Mapped::new(&map, size_of_val(deadlines)).map_err(what())?;
    for (index, deadline) in deadlines.iter().enumerate().skip(1) {
        memory.store_u64(index, *deadline);
    }
    Ok(())
}
