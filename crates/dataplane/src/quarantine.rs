//! Quarantine in one generation's tables: one publishing store an address.

use std::mem::offset_of;
use std::net::IpAddr;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData, MapError};
use bulkhead_abi::{Address, BLOCK_SLOTS, CELL_NONE, Cell, HostBucket, HostKey, Leaf, Workload};
use bulkhead_engine::change::{Addresses, Unchanged, change};
use bulkhead_engine::host_table::{self, Buckets, BucketsMut};
use bulkhead_engine::memory::Tables;

use super::mapped::Mapped;
use super::{KernelError, Pins};

/// Why an address cannot be cut off in a generation that runs.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// What was kept spare is used up: the next generation has room again.
    #[error("the running tables have no spare room left")]
    Full,
    /// No compiler makes such tables.
    #[error("the address tables are broken: an entry names a block that is not there, or is not of its kind")]
    Broken,
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl From<Unchanged> for QuarantineError {
    fn from(why: Unchanged) -> Self {
        match why {
            Unchanged::Full => Self::Full,
            Unchanged::Broken => Self::Broken,
        }
    }
}

/// Cuts addresses off in tables that are not in the kernel yet.
///
/// # Errors
/// If the tables are broken.
pub fn quarantine_tables(tables: &mut Tables, addresses: &[IpAddr]) -> Result<(), QuarantineError> {
    addresses.iter().try_for_each(|address| Ok(change(tables, *address, |leaf| leaf.with_quarantine(true))?))
}

/// Gives addresses other classes in tables that are not in the kernel yet. Returns the leaves that they had.
///
/// # Errors
/// If the tables are broken.
pub fn replace_leaves(
    tables: &mut Tables,
    leaves: impl IntoIterator<Item = (IpAddr, Leaf)>,
) -> Result<Vec<(IpAddr, Leaf)>, QuarantineError> {
    let mut before = Vec::new();
    for (address, wanted) in leaves {
        change(tables, address, |leaf| {
            before.push((address, leaf));
            wanted.with_quarantine(leaf.quarantined())
        })?;
    }
    Ok(before)
}

/// The host table of a generation in the kernel.
struct RunningHosts(Mapped);

impl RunningHosts {
    /// The number of a bucket's word of 4 bytes; its keys are the first twelve.
    const fn word(index: u32, word: usize) -> usize {
        index as usize * size_of::<HostBucket>() / 4 + word
    }
    const LEAVES: usize = std::mem::offset_of!(HostBucket, leaves) / 4;
    const MORE: usize = std::mem::offset_of!(HostBucket, more) / 4;
}

impl Buckets for RunningHosts {
    fn count(&self) -> u32 {
        self.0.count::<HostBucket>() as u32
    }
    fn bucket(&self, index: u32) -> Option<&HostBucket> {
        self.0.value(index as usize)
    }
}

impl BucketsMut for RunningHosts {
    fn write_key(&mut self, index: u32, place: usize, key: HostKey) {
        for (word, value) in key.into_iter().enumerate() {
            self.0.store_u64(Self::word(index, 0) / 2 + 2 * place + word, value);
        }
    }
    fn publish_leaf(&mut self, index: u32, place: usize, leaf: u32) {
        self.0.store_u32(Self::word(index, Self::LEAVES + place), leaf);
    }
    fn publish_more(&mut self, index: u32) {
        self.0.store_u32(Self::word(index, Self::MORE), 1);
    }
}

/// The address tables of a generation in the kernel.
pub struct AddressTables {
    trie: Mapped,
    hosts: RunningHosts,
    prefix6: LpmTrie<MapData, [u32; 4], u32>,
    workloads: Mapped,
    cells: Mapped,
    ports: Mapped,
}

/// What a cell does, as one word: its action and its flags.
pub(super) const fn does(cell: &Cell) -> u32 {
    u32::from_ne_bytes([cell.action, cell.flags, cell.reserved[0], cell.reserved[1]])
}

/// That of a cell that admits nothing.
pub const ADMITS_NOTHING: u32 = does(&Cell::NONE);
const _: () = assert!(ADMITS_NOTHING == CELL_NONE as u32 && offset_of!(Cell, action) % 4 == 0);

impl AddressTables {
    /// Opens those of a generation.
    ///
    /// # Errors
    /// If they are not pinned, or not of that shape.
    pub fn open(pins: &Pins, generation: u32) -> Result<Self, KernelError> {
        let directory = pins.generation(generation);
        let open = |name: &str| {
            let path = directory.join(name);
            MapData::from_pin(&path)
                .map_err(KernelError::refused(format!("{}: opening the pinned map", path.display())))
        };
        let mapped = |name: &str| {
            let what = format!("generation {generation}: map {name}");
            let map = open(name)?;
            let bytes = map.info().map_err(KernelError::refused(what.clone()))?.value_size() as usize;
            Mapped::new(&map, bytes).map_err(KernelError::refused(what))
        };
        let (trie, hosts) = (mapped("TRIE4")?, RunningHosts(mapped("HOST_TABLE")?));
        let prefix6 = Map::LpmTrie(open("PREFIX6")?)
            .try_into()
            .map_err(KernelError::refused(format!("generation {generation}: map PREFIX6")))?;
        let (workloads, cells, ports) = (mapped("WORKLOADS")?, mapped("CELLS")?, mapped("PORTS")?);
        Ok(Self { trie, hosts, prefix6, workloads, cells, ports })
    }

    /// Cuts an address off from the next packet on, or takes that back.
    ///
    /// # Errors
    /// [`QuarantineError::Full`] if only the next generation can have it.
    pub fn set(&mut self, address: IpAddr, on: bool) -> Result<(), QuarantineError> {
        change(self, address, |leaf| leaf.with_quarantine(on))
    }

    /// Says which cgroup a workload is, by a local class that its addresses have. In between nobody may send from them.
    ///
    /// # Errors
    /// [`QuarantineError::Broken`] if there is no such class.
    pub fn set_workload(&mut self, class: u32, workload: Workload) -> Result<(), QuarantineError> {
        const WORDS: usize = size_of::<Workload>() / 4;
        const CGROUP: usize = offset_of!(Workload, cgroup) / 8;
        let class = class as usize;
        if class >= self.workloads.count::<Workload>() {
            return Err(QuarantineError::Broken);
        }
        let cgroup = class * WORDS / 2 + CGROUP;
        self.workloads.store_u64(cgroup, Workload::NOBODY);
        self.workloads.store_u32(class * WORDS + offset_of!(Workload, level) / 4, workload.level);
        self.workloads.store_u64(cgroup, workload.cgroup);
        Ok(())
    }

    /// What a cell does: its action and flags.
    ///
    /// # Errors
    /// [`QuarantineError::Broken`] if there is no such cell.
    pub fn cell(&self, index: u32) -> Result<u32, QuarantineError> {
        self.cells.value(index as usize).map(does).ok_or(QuarantineError::Broken)
    }

    /// Has a cell do something else from the next packet on. Its rule stays: whoever reads both reads them one by one.
    ///
    /// # Errors
    /// [`QuarantineError::Broken`] if there is no such cell.
    pub fn set_cell(&mut self, index: u32, word: u32) -> Result<(), QuarantineError> {
        self.cell(index)?;
        self.cells.store_u32((index as usize * size_of::<Cell>() + offset_of!(Cell, action)) / 4, word);
        Ok(())
    }

    /// The class of a point of the axis of ports.
    ///
    /// # Errors
    /// [`QuarantineError::Broken`] if there is no such point.
    pub fn port_class(&self, point: u32) -> Result<u16, QuarantineError> {
        self.ports.value(point as usize).copied().ok_or(QuarantineError::Broken)
    }

    /// Puts a point into another class from the next packet on.
    ///
    /// # Errors
    /// [`QuarantineError::Broken`] if there is no such point.
    pub fn set_port_class(&mut self, point: u32, class: u16) -> Result<(), QuarantineError> {
        self.port_class(point)?;
        self.ports.store_u16(point as usize, class);
        Ok(())
    }

    /// Gives an address other classes from the next packet on; whether it is cut off stays as it is.
    ///
    /// # Errors
    /// [`QuarantineError::Full`] if only the next generation can have it.
    pub fn set_leaf(&mut self, address: IpAddr, wanted: Leaf) -> Result<(), QuarantineError> {
        change(self, address, |leaf| wanted.with_quarantine(leaf.quarantined()))
    }
}

const fn slot_index(block: u32, slot: u8) -> usize {
    block as usize * BLOCK_SLOTS + slot as usize
}

impl Addresses for AddressTables {
    type Error = QuarantineError;

    fn entry(&self, block: u32, slot: u8) -> Option<Leaf> {
        self.trie.value(slot_index(block, slot)).copied()
    }
    fn publish(&mut self, block: u32, slot: u8, entry: Leaf) {
        self.trie.store_u32(slot_index(block, slot), entry.0);
    }
    fn host_table(&self, address: &Address) -> Result<Option<Leaf>, QuarantineError> {
        host_table::find(&self.hosts, address).map_err(|_| QuarantineError::Broken)
    }
    fn set_exact(&mut self, address: &Address, leaf: Leaf) -> Result<(), QuarantineError> {
        host_table::set(&mut self.hosts, address, leaf).map_err(Unchanged::from)?;
        Ok(())
    }
    fn prefix6(&self, address: &Address) -> Result<Leaf, QuarantineError> {
        match self.prefix6.get(&Key::new(128, *address), 0) {
            Ok(leaf) => Ok(Leaf(leaf)),
            Err(MapError::KeyNotFound) => Ok(Leaf::default()),
            Err(error) => Err(KernelError::refused("looking an IPv6 address up")(error).into()),
        }
    }
}
