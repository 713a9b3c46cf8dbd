//! The table of flows as the agent sees it: read as memory, written by a program only, since a
//! writer that is killed half-way would leave a slot claimed.

use std::os::fd::AsFd as _;
use std::path::Path;

use aya::maps::MapData;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use bulkhead_abi::{
    BUCKET_SLOTS, FLOW_ESTABLISHED, FlowBucket, FlowKey, FlowRecord, FlowSlot, FlowValue, IMPORT_EVICTED,
    IMPORT_REFUSED,
};
use memmap2::{MmapMut, MmapOptions};

use super::KernelError;

/// Bytes of a bucket of map ABIs before 9, which did not say how flows began: its slots alone.
pub(super) const SLOTS_ALONE: usize = BUCKET_SLOTS as usize * size_of::<FlowSlot>();

/// A pinned table of flows.
pub struct FlowTable {
    memory: MmapMut,
    buckets: usize,
    /// Bytes of a bucket: slots come first.
    bucket: usize,
}

impl FlowTable {
    /// Opens a pinned one.
    ///
    /// # Errors
    /// If it is not there, or of another shape.
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        let what = || KernelError::refused(format!("{}: opening the table of flows", path.display()));
        Self::map(&MapData::from_pin(path).map_err(what())?)
    }

    /// The table in a map.
    ///
    /// # Errors
    /// If it is of another shape.
    pub fn map(data: &MapData) -> Result<Self, KernelError> {
        let what = "mapping the table of flows";
        let info = data.info().map_err(KernelError::refused(what))?;
        let bucket = info.value_size() as usize;
        if bucket != size_of::<FlowBucket>() && bucket != SLOTS_ALONE {
            let error = std::io::Error::other("its buckets are of another size");
            return Err(KernelError::refused(what)(error));
        }
        let entries = info.max_entries() as usize;
        // SAFETY: the kernel keeps the map's pages; all access is by whole words.
        let memory = unsafe { MmapOptions::new().len(entries * bucket).map_mut(&data.fd().as_fd()) }
            .map_err(KernelError::refused(what))?;
        Ok(Self { memory, buckets: entries.saturating_sub(1), bucket })
    }

    /// The slots of a bucket. Panics beyond the last.
    fn slots_of(&self, index: usize) -> &[FlowSlot; BUCKET_SLOTS as usize] {
        let bucket = &self.memory[index * self.bucket..][..SLOTS_ALONE];
        // SAFETY: so many bytes as were just cut out; the mapping starts at a page, of whose size and of a bucket's
        // 64 bytes are a part; any bytes are slots, whose words are accessed atomically.
        unsafe { &*bucket.as_ptr().cast() }
    }

    /// The bucket behind all others, of a table of this map ABI, which holds the seed.
    fn behind(&self) -> &FlowBucket {
        let bucket = &self.memory[self.buckets * self.bucket..][..size_of::<FlowBucket>()];
        // SAFETY: as above.
        unsafe { &*bucket.as_ptr().cast() }
    }

    /// Gives a new table a seed that nobody knows.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub(super) fn give_seed(&self) -> Result<(), KernelError> {
        let behind = self.behind();
        if behind.seed() == 0 {
            let mut bytes = [0; 8];
            // SAFETY: eight bytes to fill in.
            let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
            if filled != bytes.len() as isize {
                let error = std::io::Error::last_os_error();
                return Err(KernelError::refused("a random seed for the table of flows")(error));
            }
            behind.set_seed(u64::from_ne_bytes(bytes) | 1);
        }
        Ok(())
    }

    /// Every flow, expired ones included.
    pub fn flows(&self) -> impl Iterator<Item = (FlowKey, FlowValue)> {
        (0..self.buckets).flat_map(|index| self.slots_of(index)).filter_map(FlowSlot::flow)
    }

    /// How many buckets it has.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.buckets
    }

    /// The flows of one of them, expired ones included.
    pub fn bucket(&self, index: usize) -> impl Iterator<Item = (FlowKey, FlowValue)> {
        self.slots_of(index).iter().filter_map(FlowSlot::flow)
    }

    /// How many have no completed conversation, and how many have.
    #[must_use]
    pub fn count(&self) -> [usize; 2] {
        let mut counts = [0; 2];
        for (_, flow) in self.flows() {
            counts[usize::from(flow.flags & FLOW_ESTABLISHED != 0)] += 1;
        }
        counts
    }

    /// How many it is made for.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.buckets * BUCKET_SLOTS as usize
    }

    /// Forgets all. No program may be using it.
    pub fn clear(&mut self) {
        let end = self.buckets * self.bucket;
        self.memory[..end].fill(0);
    }
}

/// The program that stores flows for the agent.
pub struct Importer<'a>(pub(super) &'a mut SchedClassifier);

impl Importer<'_> {
    /// Stores flows. One that is there stays as it is, unless it was seen before the new one.
    /// Returns how many there was no place for: those that found none, and those that made room.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn store(&mut self, flows: impl IntoIterator<Item = FlowRecord>) -> Result<usize, KernelError> {
        let mut lost = 0;
        for record in flows {
            let options = TestRunOptions { data_in: Some(record.as_bytes()), ..TestRunOptions::default() };
            let ran = self.0.test_run(options).map_err(KernelError::refused("storing a flow"))?;
            lost += usize::from(matches!(ran.return_value, IMPORT_REFUSED | IMPORT_EVICTED));
        }
        Ok(lost)
    }
}
