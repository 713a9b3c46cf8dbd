//! How single addresses lie in their table: three in a bucket, a bucket a cache line.

use crate::recall;
use crate::{Address, Leaf};

/// Places for addresses in a bucket.
pub const BUCKET_PLACES: usize = 3;

/// An address as it is compared: two words, as they lie in memory.
pub type HostKey = [u64; 2];

/// The words of an address.
#[inline(always)]
#[must_use]
pub const fn host_key([a, b, c, d]: Address) -> HostKey {
    [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32]
}

/// The address of two words.
#[inline(always)]
#[must_use]
pub const fn exact_address([high, low]: HostKey) -> Address {
    [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32]
}

/// Three places, and whether more addresses of this bucket lie elsewhere.
///
/// A place is taken while programs read it: first its key is written, then its leaf with
/// [`Self::PRESENT`]. Whoever reads the leaf before the key finds all of it or nothing.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostBucket {
    /// Addresses, [`host_key`].
    pub keys: [HostKey; BUCKET_PLACES],
    /// Their leaves and [`Self::PRESENT`]; 0: the place is empty, whatever its key.
    pub leaves: [u32; BUCKET_PLACES],
    /// Not 0: what is not here may be in the next bucket of its chain.
    pub more: u32,
}
const _: () = assert!(size_of::<HostBucket>() == 64);

impl HostBucket {
    /// In a leaf: the place is taken.
    pub const PRESENT: u32 = 1 << 31;
    /// No address.
    pub const EMPTY: Self = Self { keys: [[0; 2]; BUCKET_PLACES], leaves: [0; BUCKET_PLACES], more: 0 };

    /// The leaf of an address with [`Self::PRESENT`]; 0 if it is not in this bucket. Read in this order,
    /// word by word, since a writer may be at it. The lower half of
    /// the key alone tells nearly all apart.
    #[inline(always)]
    #[must_use]
    pub fn find(&self, key: HostKey) -> u32 {
        for place in 0..BUCKET_PLACES {
            let leaf = recall(&self.leaves[place]);
            let [high, low] = &self.keys[place];
            if recall(low) == key[1] && recall(high) == key[0] && leaf != 0 {
                return leaf;
            }
        }
        0
    }

    /// Whether what is not here may be in the next bucket of its chain.
    #[inline(always)]
    #[must_use]
    pub fn goes_on(&self) -> bool {
        recall(&self.more) != 0
    }

    /// The place that an address has, or could have, and whether it has it.
    #[must_use]
    pub fn place(&self, key: HostKey) -> Option<(usize, bool)> {
        let has = |place: &usize| self.leaves[*place] != 0 && self.keys[*place] == key;
        let mut places = 0..BUCKET_PLACES;
        let held = places.clone().find(has).map(|place| (place, true));
        held.or_else(|| places.find(|place| self.leaves[*place] == 0).map(|place| (place, false)))
    }

    /// Its addresses and their leaves.
    pub fn entries(&self) -> impl Iterator<Item = (Address, Leaf)> + Clone + '_ {
        let taken = self.keys.iter().zip(&self.leaves).filter(|(_, leaf)| **leaf != 0);
        taken.map(|(key, leaf)| (exact_address(*key), Leaf(leaf & !Self::PRESENT)))
    }
}
