//! State of another map ABI or size in the fake kernel.

use std::path::PathBuf;

use bulkhead_api::hook::Hook;

use super::super::plane::StateMigration;
use super::super::{Capacity, KernelError, OrphanedEvents, Pins};
use super::handle::Fake;
use super::tables::FakeTables;

/// What is to be done about it: the table of flows stands for all state.
#[derive(Debug)]
pub struct FakeMigration {
    fake: Fake,
    pins: Pins,
    others: Vec<Pins>,
    /// Where the table of flows is made that takes the place of the one that is there.
    next: Option<PathBuf>,
}

impl FakeMigration {
    pub(super) fn plan(fake: &Fake, pins: &Pins, capacity: &Capacity, generation: u32) -> Self {
        let others = fake.others(pins);
        let machine = fake.machine();
        let tables = [pins].into_iter().chain(&others).filter_map(|pins| machine.find(pins));
        let sizes: Vec<_> = tables.flat_map(|layout| layout.states.values().copied()).collect();
        // One that fits is taken as it is, wherever it lies.
        let is_moved = sizes.len() > 1 || sizes.iter().any(|size| *size != capacity.flows);
        drop(machine);
        let next = is_moved.then(|| pins.next_state(generation));
        Self { fake: fake.clone(), pins: pins.clone(), others, next }
    }

    fn refused<E: std::error::Error + Send + Sync + 'static>(error: E) -> KernelError {
        KernelError::refused("migrating state")(error)
    }
}

impl StateMigration for FakeMigration {
    type Tables = FakeTables;

    fn is_needed(&self) -> bool {
        self.next.is_some() || !self.others.is_empty()
    }
    fn is_resized(&self) -> bool {
        self.next.is_some()
    }
    fn loses_flows(&self) -> bool {
        false
    }
    fn unreadable(&self) -> &[&'static str] {
        &[]
    }
    fn versions(&self) -> Vec<u32> {
        self.others.iter().map(Pins::version).collect()
    }
    fn others(&self) -> &[Pins] {
        &self.others
    }
    fn prepared(&self) -> Pins {
        let prepared = self.next.iter().map(|next| ("FLOWS", next.join("FLOWS")));
        self.pins.with_prepared(prepared.collect())
    }
    fn links(&self) -> Result<Vec<(String, Hook)>, KernelError> {
        let machine = self.fake.machine();
        let all = [&self.pins].into_iter().chain(&self.others).filter_map(|pins| machine.find(pins));
        Ok(all.flat_map(|layout| layout.links.keys().cloned()).collect())
    }
    fn prepare(&self) -> Result<(), KernelError> {
        self.fake.step("make room for state").map_err(Self::refused)
    }
    fn take_links(&self) -> Result<(), KernelError> {
        for other in &self.others {
            let links = self.fake.machine().layout(other).links.clone();
            for (key, link) in links {
                self.fake.step("take a link over").map_err(Self::refused)?;
                let mut machine = self.fake.machine();
                if !machine.layout(&self.pins).links.contains_key(&key) {
                    machine.pin(&self.pins, key.clone(), link);
                    machine.unpin(other.root(), &key);
                }
            }
        }
        Ok(())
    }
    fn copy_flows(&self, _tables: &mut FakeTables) -> Result<[usize; 2], KernelError> {
        self.fake.step("copy flows").map_err(Self::refused)?;
        Ok([0, 0])
    }
    fn orphaned_events(&self) -> Result<OrphanedEvents, KernelError> {
        self.fake.step("read orphaned events").map_err(Self::refused)?;
        Ok(OrphanedEvents::default())
    }
    fn finish(self, tables: &mut FakeTables) -> Result<(), KernelError> {
        self.copy_flows(tables)?;
        if let Some(next) = &self.next {
            self.fake.step("give state its place").map_err(Self::refused)?;
            let name = next.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut machine = self.fake.machine();
            let states = &mut machine.layout(&self.pins).states;
            if let Some(size) = states.remove(&name) {
                states.insert("state".to_owned(), size);
            }
        }
        self.fake.step("remove old state").map_err(Self::refused)?;
        self.fake.machine().layout(&self.pins).states.retain(|name, _| name == "state");
        for other in &self.others {
            self.fake.step("remove another map ABI").map_err(Self::refused)?;
            self.fake.remove_layout(other);
        }
        Ok(())
    }
}
