//! nftables in memory.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_dataplane::fake::Faults;

use crate::guard::{Digest, Fallback, Guard, InstalledFallback};

/// One instance's table, which outlives the process.
#[derive(Clone, Debug, Default)]
pub struct FakeNft {
    table: Arc<Mutex<Option<Guard>>>,
    faults: Faults,
}

/// A table that this process has put in place.
#[derive(Debug)]
struct FakeInstalled {
    nft: FakeNft,
    guard: Guard,
}

impl FakeNft {
    pub fn new(faults: &Faults) -> Self {
        Self { table: Arc::default(), faults: faults.clone() }
    }

    /// What is in place.
    pub fn table(&self) -> MutexGuard<'_, Option<Guard>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(guard: &Guard) -> Digest {
    Digest::of_words(&format!("{guard:?}"))
}

impl Fallback for FakeNft {
    fn is_there(&self, _instance: &str) -> bool {
        self.table().is_some()
    }
    fn install(&self, guard: &Guard, _instance: &str) -> anyhow::Result<Box<dyn InstalledFallback>> {
        self.faults.step("nft: install")?;
        *self.table() = Some(guard.clone());
        Ok(Box::new(FakeInstalled { nft: self.clone(), guard: guard.clone() }))
    }
    fn remove(&self, _instance: &str) -> anyhow::Result<()> {
        self.faults.step("nft: remove")?;
        *self.table() = None;
        Ok(())
    }
    fn closes(&self, _instance: &str, device: (u32, u32)) -> anyhow::Result<bool> {
        Ok(self.table().as_ref().is_some_and(|guard| !guard.attached.contains(&device)))
    }
    fn difference(&self, noted: &Digest, _instance: &str) -> anyhow::Result<Option<&'static str>> {
        self.faults.step("nft: ask")?;
        Ok(match &*self.table() {
            None => Some("the table is gone"),
            Some(guard) => (digest(guard) != *noted).then_some("it is another one"),
        })
    }
    fn is_absent(&self, _instance: &str) -> anyhow::Result<Option<&'static str>> {
        Ok(self.table().is_none().then_some("the table is gone"))
    }
}

impl InstalledFallback for FakeInstalled {
    fn difference(&mut self) -> anyhow::Result<Option<&'static str>> {
        self.nft.faults.step("nft: ask")?;
        Ok((self.nft.table().as_ref() != Some(&self.guard)).then_some("it is another one"))
    }
    fn set_attached(&mut self, devices: &BTreeSet<(u32, u32)>) -> anyhow::Result<()> {
        self.nft.faults.step("nft: change a set")?;
        self.guard.attached.clone_from(devices);
        *self.nft.table() = Some(self.guard.clone());
        Ok(())
    }
    fn digest(&self) -> Digest {
        digest(&self.guard)
    }
}
