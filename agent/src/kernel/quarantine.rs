//! Quarantine in one generation's tables: one publishing store an address.

use std::net::{IpAddr, Ipv4Addr};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, Map, MapData, MapError};
use bulkhead_engine::layout::{Address, BLOCK_SLOTS, Leaf, from_ip};
use bulkhead_engine::memory::Tables;

use super::mapped::Mapped;
use super::state::wait_for_programs;
use super::{KernelError, Pins};

/// Why an address cannot be cut off in a generation that runs.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// What was kept spare is used up: the next generation has room again.
    #[error("the running tables have no spare room left")]
    Full,
    /// A block names one that is not there.
    #[error("the IPv4 trie names a block that it does not have")]
    Broken,
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// The blocks of an IPv4 trie that programs may be reading.
pub trait Blocks {
    /// An entry.
    fn load(&self, block: u32, slot: u8) -> Option<Leaf>;
    /// Writes an entry so that whoever reads it sees everything written before.
    fn publish(&mut self, block: u32, slot: u8, leaf: Leaf);
    /// Takes `count` blocks that nothing names yet; the index of the first.
    fn take(&mut self, count: u32) -> Option<u32>;
    /// Writes a block that nothing names yet.
    fn write(&mut self, block: u32, leaves: &[Leaf; BLOCK_SLOTS]);
}

/// Cuts an address off, or takes that back. No other address changes at any moment: a leaf
/// that stands for more than the one is first split into blocks of its copies, and those are
/// whole before the pointer to them is there.
///
/// # Errors
/// [`QuarantineError::Full`] without spare blocks; then nothing was written.
pub fn set_quarantine(blocks: &mut impl Blocks, address: Ipv4Addr, on: bool) -> Result<(), QuarantineError> {
    let [first, second, third, fourth] = address.octets();
    let (mut block, mut slot) = (u32::from(first), second);
    let mut rest: &[u8] = &[third, fourth];
    let leaf = loop {
        let entry = blocks.load(block, slot).ok_or(QuarantineError::Broken)?;
        let Some(next) = entry.as_block() else { break entry };
        let (byte, deeper) = rest.split_first().ok_or(QuarantineError::Broken)?;
        (block, slot, rest) = (next, *byte, deeper);
    };
    let wanted = leaf.with_quarantine(on);
    if wanted == leaf {
        return Ok(());
    }
    let first = blocks.take(rest.len() as u32).ok_or(QuarantineError::Full)?;
    let mut entry = wanted;
    for (index, byte) in (first..).zip(rest.iter().rev()) {
        let mut leaves = [leaf; BLOCK_SLOTS];
        leaves[usize::from(*byte)] = entry;
        blocks.write(index, &leaves);
        entry = Leaf::block(index);
    }
    blocks.publish(block, slot, entry);
    Ok(())
}

/// A trie that no program reads yet grows as it needs.
impl Blocks for Vec<[Leaf; BLOCK_SLOTS]> {
    fn load(&self, block: u32, slot: u8) -> Option<Leaf> {
        self.get(block as usize).map(|leaves| leaves[usize::from(slot)])
    }
    fn publish(&mut self, block: u32, slot: u8, leaf: Leaf) {
        self[block as usize][usize::from(slot)] = leaf;
    }
    fn take(&mut self, count: u32) -> Option<u32> {
        let first = self.len();
        self.resize(first + count as usize, [Leaf(0); BLOCK_SLOTS]);
        u32::try_from(first).ok()
    }
    fn write(&mut self, block: u32, leaves: &[Leaf; BLOCK_SLOTS]) {
        self[block as usize] = *leaves;
    }
}

/// Cuts addresses off in tables that are not in the kernel yet.
///
/// # Errors
/// If the trie is broken.
pub fn quarantine_tables(tables: &mut Tables, addresses: &[IpAddr]) -> Result<(), QuarantineError> {
    for address in addresses {
        match address {
            IpAddr::V4(v4) => set_quarantine(&mut tables.trie, *v4, true)?,
            IpAddr::V6(_) => {
                let words = from_ip(*address);
                match tables.exact6.binary_search_by_key(&words, |entry| entry.0) {
                    Ok(found) => {
                        tables.exact6[found].1 = tables.exact6[found].1.with_quarantine(true);
                    }
                    Err(place) => {
                        let leaf = covering(tables, &words).with_quarantine(true);
                        tables.exact6.insert(place, (words, leaf));
                    }
                }
            }
        }
    }
    Ok(())
}

/// The leaf of the longest prefix around an IPv6 address that has none of its own.
fn covering(tables: &Tables, address: &Address) -> Leaf {
    let bits =
        |words: &Address| words.iter().fold(0u128, |bits, word| bits << 32 | u128::from(u32::from_be(*word)));
    let holds = |prefix: u32, start: &Address| {
        prefix == 0 || (bits(start) ^ bits(address)) >> (128 - prefix.min(128)) == 0
    };
    let around = tables.prefixes6.iter().filter(|(key, _)| holds(key.prefix, &key.address));
    around.max_by_key(|(key, _)| key.prefix).map(|(_, leaf)| *leaf).unwrap_or_default()
}

/// The trie of a generation in the kernel.
struct RunningTrie {
    memory: Mapped,
    blocks: u32,
    used: u32,
}

impl RunningTrie {
    fn word(block: u32, slot: usize) -> usize {
        block as usize * BLOCK_SLOTS + slot
    }
}

impl Blocks for RunningTrie {
    fn load(&self, block: u32, slot: u8) -> Option<Leaf> {
        (block < self.blocks).then(|| Leaf(self.memory.load_u32(Self::word(block, slot.into()))))
    }
    fn publish(&mut self, block: u32, slot: u8, leaf: Leaf) {
        self.memory.store_u32(Self::word(block, slot.into()), leaf.0);
    }
    fn take(&mut self, count: u32) -> Option<u32> {
        let first = self.used;
        let end = first.checked_add(count).filter(|end| *end <= self.blocks)?;
        self.used = end;
        Some(first)
    }
    fn write(&mut self, block: u32, leaves: &[Leaf; BLOCK_SLOTS]) {
        for (slot, leaf) in leaves.iter().enumerate() {
            self.memory.store_u32(Self::word(block, slot), leaf.0);
        }
    }
}

fn refused<E>(generation: u32, map: &str) -> impl FnOnce(E) -> KernelError + use<E>
where
    E: std::error::Error + Send + Sync + 'static,
{
    KernelError::refused(format!("generation {generation}: map {map}"))
}

/// The address tables of a generation in the kernel.
pub struct AddressTables {
    trie: RunningTrie,
    exact6: HashMap<MapData, [u32; 4], u32>,
    prefix6: LpmTrie<MapData, [u32; 4], u32>,
}

impl AddressTables {
    /// Opens those of a generation whose trie has its first `used` blocks in use.
    ///
    /// # Errors
    /// If they are not pinned, or not of that shape.
    pub fn open(pins: &Pins, generation: u32, used: usize) -> Result<Self, KernelError> {
        let directory = pins.generation(generation);
        let open = |name: &str| {
            let path = directory.join(name);
            MapData::from_pin(&path)
                .map_err(KernelError::refused(format!("{}: opening the pinned map", path.display())))
        };
        let trie = open("TRIE4")?;
        let blocks = trie.info().map_err(refused(generation, "TRIE4"))?.max_entries();
        let memory = Mapped::new(&trie, blocks as usize * BLOCK_SLOTS * size_of::<Leaf>())
            .map_err(refused(generation, "TRIE4"))?;
        let used = u32::try_from(used).map_err(refused(generation, "TRIE4"))?;
        Ok(Self {
            trie: RunningTrie { memory, blocks, used },
            exact6: Map::HashMap(open("EXACT6")?).try_into().map_err(refused(generation, "EXACT6"))?,
            prefix6: Map::LpmTrie(open("PREFIX6")?).try_into().map_err(refused(generation, "PREFIX6"))?,
        })
    }

    /// Cuts an address off from the next packet on, or takes that back.
    ///
    /// # Errors
    /// [`QuarantineError::Full`] if only the next generation can have it.
    pub fn set(&mut self, address: IpAddr, on: bool) -> Result<(), QuarantineError> {
        match address {
            IpAddr::V4(v4) => set_quarantine(&mut self.trie, v4, on),
            IpAddr::V6(_) => self.set6(from_ip(address), on),
        }
    }

    fn set6(&mut self, address: Address, on: bool) -> Result<(), QuarantineError> {
        let what = || KernelError::refused("looking an IPv6 address up");
        let missing = |error| match error {
            MapError::KeyNotFound => Ok(None),
            error => Err(what()(error)),
        };
        let leaf = self.exact6.get(&address, 0).map(Some).or_else(missing)?;
        let leaf = match leaf {
            Some(leaf) => Some(leaf),
            None => self.prefix6.get(&Key::new(128, address), 0).map(Some).or_else(missing)?,
        };
        let leaf = Leaf(leaf.unwrap_or_default());
        let wanted = leaf.with_quarantine(on);
        if wanted == leaf {
            return Ok(());
        }
        match self.exact6.insert(address, wanted.0, 0) {
            Ok(()) => {}
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
                return Err(QuarantineError::Full);
            }
            Err(error) => return Err(KernelError::refused("writing an IPv6 address")(error).into()),
        }
        // The element that was replaced may be given to another address only once no program reads it.
        Ok(wait_for_programs()?)
    }
}

#[cfg(test)]
#[path = "quarantine_tests.rs"]
mod tests;
