//! The host table on the host, before a program reads it: it grows as it needs.

use std::borrow::Cow;

use bulkhead_abi::{Address, BUCKET_PLACES, HostBucket, HostKey, Leaf};

use super::{Buckets, BucketsMut, Full, find, set};

/// Of so many places at most so many are taken.
const FULLEST: (usize, usize) = (3, 2);
/// Of so many places so many are taken in a table that is made for what it holds.
const USUAL: (usize, usize) = (5, 3);
/// How often a table is made larger because some chain had no place.
const ATTEMPTS: u32 = 8;

/// Addresses and their leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTable {
    buckets: Vec<HostBucket>,
    len: usize,
}

impl Default for HostTable {
    fn default() -> Self {
        Self { buckets: vec![HostBucket::EMPTY], len: 0 }
    }
}

impl HostTable {
    /// A table of these entries, each address once.
    ///
    /// # Errors
    /// [`Full`] if no size is enough: more addresses than a chain has places have the same hash.
    pub fn new(entries: impl Iterator<Item = (Address, Leaf)> + Clone) -> Result<Self, Full> {
        let count = entries.clone().count();
        Self::sized(entries, count)
    }

    /// The table of buckets that were read out of a map.
    #[must_use]
    pub fn of_buckets(buckets: Vec<HostBucket>) -> Self {
        let len = buckets.iter().map(|bucket| bucket.entries().count()).sum();
        Self { buckets, len }
    }

    /// A table made for `count` entries.
    fn sized(entries: impl Iterator<Item = (Address, Leaf)> + Clone, count: usize) -> Result<Self, Full> {
        let mut buckets = (count * USUAL.0).div_ceil(USUAL.1 * BUCKET_PLACES).max(1);
        for _ in 0..ATTEMPTS {
            let mut table = Self { buckets: vec![HostBucket::EMPTY; buckets], len: 0 };
            if entries.clone().all(|(address, leaf)| table.insert(&address, leaf).is_ok()) {
                return Ok(table);
            }
            buckets += buckets.div_ceil(4);
        }
        Err(Full)
    }

    /// Takes a place that is there.
    fn insert(&mut self, address: &Address, leaf: Leaf) -> Result<(), Full> {
        self.len += usize::from(set(self, address, leaf)?);
        Ok(())
    }

    /// Gives an address a leaf.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn set(&mut self, address: &Address, leaf: Leaf) -> Result<(), Full> {
        let has_room = self.has_room(1) || self.get(address).is_some();
        if !has_room || self.insert(address, leaf).is_err() {
            let others: Vec<_> = self.iter().filter(|(other, _)| other != address).collect();
            let all = others.iter().copied().chain([(*address, leaf)]);
            *self = Self::sized(all, others.len() + others.len() / 2 + 1)?;
        }
        Ok(())
    }

    /// The leaf of an address.
    #[must_use]
    pub fn get(&self, address: &Address) -> Option<Leaf> {
        find(self, address).ok().flatten()
    }

    /// Every address and its leaf, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Address, Leaf)> + Clone + '_ {
        self.buckets.iter().flat_map(HostBucket::entries)
    }

    /// How many addresses it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The buckets, as they lie in the map.
    #[must_use]
    pub fn buckets(&self) -> &[HostBucket] {
        &self.buckets
    }

    fn has_room(&self, spare: usize) -> bool {
        (self.len + spare) * FULLEST.0 <= self.buckets.len() * BUCKET_PLACES * FULLEST.1
    }

    /// The same with room for `spare` addresses more while programs read it.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_room(&self, spare: usize) -> Result<Cow<'_, Self>, Full> {
        if self.has_room(spare) {
            return Ok(Cow::Borrowed(self));
        }
        Self::sized(self.iter(), self.len + spare).map(Cow::Owned)
    }
}

impl Buckets for HostTable {
    fn count(&self) -> u32 {
        self.buckets.len() as u32
    }
    fn bucket(&self, index: u32) -> Option<&HostBucket> {
        self.buckets.get(index as usize)
    }
}

impl BucketsMut for HostTable {
    fn write_key(&mut self, index: u32, place: usize, key: HostKey) {
        self.buckets[index as usize].keys[place] = key;
    }
    fn publish_leaf(&mut self, index: u32, place: usize, leaf: u32) {
        self.buckets[index as usize].leaves[place] = leaf;
    }
    fn publish_more(&mut self, index: u32) {
        self.buckets[index as usize].more = 1;
    }
}
