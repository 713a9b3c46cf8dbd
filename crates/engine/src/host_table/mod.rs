//! The host table: the leaf of single addresses of both families, in buckets of a cache line.
//!
//! An address's hash names a chain of buckets, of which it lies in the first that had room. A
//! bucket that was full knows that there are more, so that most look-ups, and nearly all of
//! addresses that are not there, read one line. Chains are bounded: tables that would need longer
//! ones are made larger. There is one writer; readers take no lock.

#[cfg(any(test, feature = "std"))]
mod table;

#[cfg(any(test, feature = "std"))]
pub use table::HostTable;

use crate::Reason;
use bulkhead_abi::{Address, HostBucket, HostKey, Leaf, host_key};

/// The most buckets of a chain.
pub const CHAIN: usize = 16;

/// What [`rest`] says of tables that no compiler makes. Any leaf that is there has
/// [`HostBucket::PRESENT`].
const BROKEN: u32 = 1;

/// Where the buckets are.
pub trait Buckets {
    /// How many there are.
    fn count(&self) -> u32;
    /// One of them.
    fn bucket(&self, index: u32) -> Option<&HostBucket>;

    /// [`rest`], which a program may keep out of line.
    #[inline(never)]
    fn rest(&self, key: HostKey) -> u32
    where
        Self: Sized,
    {
        rest(self, key)
    }
}

/// Where they can be written, programs reading them or not.
pub trait BucketsMut: Buckets {
    /// Writes the key of a place that is empty.
    fn write_key(&mut self, index: u32, place: usize, key: HostKey);
    /// Writes the leaf of a place, so that whoever reads it sees everything written before.
    fn publish_leaf(&mut self, index: u32, place: usize, leaf: u32);
    /// Writes that a bucket has more elsewhere, likewise.
    fn publish_more(&mut self, index: u32);
}

/// The table has no place for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The buckets of an address, in order.
struct Chain(u64);

impl Chain {
    /// Both halves multiplied and shifted at once, then their sum: every bit depends on all. The
    /// factors are those of MurmurHash3's finish (public domain).
    #[inline(always)]
    const fn of([high, low]: HostKey) -> Self {
        const A: u64 = 0xff51_afd7_ed55_8ccd;
        const B: u64 = 0xc4ce_b9fe_1a85_ec53;
        const fn mix(word: u64, by: u64) -> u64 {
            let mixed = (word ^ word >> 32).wrapping_mul(by);
            mixed ^ mixed >> 29
        }
        Self(mix(mix(high, A).rotate_left(32).wrapping_add(mix(low, B)), A))
    }

    /// The upper half as a fraction of the buckets: there may be any number of them.
    #[inline(always)]
    const fn bucket(&self, count: u32) -> u32 {
        (((self.0 >> 32) * count as u64) >> 32) as u32
    }

    /// Goes on (Knuth's MMIX generator), so that two chains which meet part again.
    #[inline(always)]
    const fn next(self) -> Self {
        Self(self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f))
    }
}

/// The leaf of exactly this address, if the table has it.
///
/// # Errors
/// [`Reason::LookupFailed`] if a bucket is missing.
#[inline(always)]
pub fn find(buckets: &impl Buckets, address: &Address) -> Result<Option<Leaf>, Reason> {
    let key = host_key(*address);
    let first = Chain::of(key).bucket(buckets.count());
    let first = buckets.bucket(first).ok_or(Reason::LookupFailed)?;
    let mut found = first.find(key);
    if found == 0 {
        if !first.goes_on() {
            return Ok(None);
        }
        found = buckets.rest(key);
    }
    match found {
        0 => Ok(None),
        leaf if leaf & HostBucket::PRESENT != 0 => Ok(Some(Leaf(leaf & !HostBucket::PRESENT))),
        _ => Err(Reason::LookupFailed),
    }
}

/// Looks in all buckets of a chain but the first: the leaf with [`HostBucket::PRESENT`], 0 if it is
/// not there. Nothing is stored behind the last bucket, whatever other chains announce in it.
#[inline(always)]
pub fn rest(buckets: &impl Buckets, key: HostKey) -> u32 {
    let mut chain = Chain::of(key);
    for _ in 1..CHAIN {
        chain = chain.next();
        let Some(bucket) = buckets.bucket(chain.bucket(buckets.count())) else {
            return BROKEN;
        };
        let leaf = bucket.find(key);
        if leaf != 0 || !bucket.goes_on() {
            return leaf;
        }
    }
    0
}

/// Gives an address a leaf. No other address's look-up changes at any moment, and this one's
/// changes by the last store. Whether it had none.
///
/// # Errors
/// [`Full`] if its chain has no place; then nothing was written.
pub fn set(buckets: &mut impl BucketsMut, address: &Address, leaf: Leaf) -> Result<bool, Full> {
    let key = host_key(*address);
    let mut chain = Chain::of(key);
    let mut passed = [0; CHAIN];
    for depth in 0..CHAIN {
        let index = chain.bucket(buckets.count());
        passed[depth] = index;
        // Places never become empty again: what is there lies before the first empty place.
        if let Some((place, is_held)) = buckets.bucket(index).ok_or(Full)?.place(key) {
            if !is_held {
                buckets.write_key(index, place, key);
            }
            buckets.publish_leaf(index, place, leaf.0 | HostBucket::PRESENT);
            // From the last to the first, without which none of them is read.
            for index in passed[..depth].iter().rev() {
                if !buckets.bucket(*index).is_some_and(HostBucket::goes_on) {
                    buckets.publish_more(*index);
                }
            }
            return Ok(!is_held);
        }
        chain = chain.next();
    }
    Err(Full)
}
