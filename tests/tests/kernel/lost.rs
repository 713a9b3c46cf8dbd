//! What nothing tells of, as the programs count it.

use aya::maps::PerCpuArray;
use bulkhead_abi::LOST_RING;

use super::Kernel;

impl Kernel {
    /// Flows that were to be told of as they began.
    pub fn lost_flows(&mut self) -> u64 {
        self.sum("LOST_FLOWS", 0)
    }

    /// A counter of all CPUs.
    fn sum(&mut self, map: &str, index: u32) -> u64 {
        let map = self.generation.map_mut(map).expect("a map of the object");
        let counts = PerCpuArray::<_, u64>::try_from(map).expect("a per-CPU array");
        counts.get(&index, 0).expect("a counter").iter().sum()
    }

    /// Drops that nothing else tells of.
    pub fn lost(&mut self) -> u64 {
        self.sum("LOST_EVENTS", LOST_RING)
            + self.every_reason(&self.unreported).map(|counter| counter.packets).sum::<u64>()
    }
}
