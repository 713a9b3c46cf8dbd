//! The places of a CPU on a real-time kernel, and what a staged policy does there.

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use bulkhead_abi::{Counter, DIRECTIONS, NESTING_LEVELS};
use bulkhead_engine::Metadata;

use super::{Kernel, own_map};

impl Kernel {
    /// The metadata of a place of this CPU, on a real-time kernel.
    pub fn metadata_at(&self, place: u32) -> Metadata {
        self.own_value(&self.metadata, place)
    }

    /// The threads that have this CPU's places.
    pub fn at_work(&mut self) -> Vec<u64> {
        let cpu = self.cpu;
        self.places().get(&0, 0).expect("the places")[cpu].to_vec()
    }

    /// Lets a thread that is none have every CPU's first places.
    pub fn occupy(&mut self, places: usize) {
        let mut threads = [0; NESTING_LEVELS as usize];
        threads[..places].fill(u64::MAX);
        let threads = PerCpuValues::try_from(vec![threads; self.cpus]).expect("as many as CPUs");
        self.places().set(0, threads, 0).expect("occupying places");
    }

    fn places(&mut self) -> PerCpuArray<&mut MapData, [u64; NESTING_LEVELS as usize]> {
        let map = self.generation.map_mut("AT_WORK").expect("a map of the object");
        PerCpuArray::try_from(map).expect("a per-CPU array")
    }

    /// Packets that the staged policy decided otherwise on this CPU.
    pub fn differences(&self) -> u64 {
        let map = own_map(&self.generation, "STAGED_COUNTERS");
        (0..DIRECTIONS * 2).map(|index| self.own_value::<Counter>(&map, index).packets).sum()
    }
}
