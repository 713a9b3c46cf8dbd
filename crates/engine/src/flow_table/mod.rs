//! The table of flows: buckets of eight slots, one cache line a slot.
//!
//! A key's hash names its home, one slot of one bucket, and a second bucket. A flow lies in its
//! home if that was free, else in whichever of the two buckets had more room; the home remembers
//! where. So a look-up reads one line, and as many more as there are flows of the same
//! home elsewhere. Writers claim a slot by its head; readers take no lock.
//!
//! A new flow takes the place of none, an expired one, or an unreplied one. A conversation that
//! lives makes room only for its own other end, or if that end has more than half of all the
//! places that the new flow could have, or a quarter and the new flow's end has none; else the new
//! flow is refused.

mod room;

pub use room::{Search, places};

use bulkhead_abi::{BUCKET_SLOTS, FlowBucket, FlowKey, FlowSlot, FlowValue, Head, KeyWords, Word};
use room::choose;

/// How often a writer begins anew because another one was faster.
const ATTEMPTS: u32 = 3;

/// Slots that a flow can lie in.
const CHOICES: u32 = 2 * BUCKET_SLOTS;

/// Where the buckets are.
pub trait Buckets {
    /// A bucket.
    fn bucket(&self, index: u32) -> Option<&FlowBucket>;
    /// The highest bucket's index: one less than a power of two, at least 1.
    fn mask(&self) -> u32;
    /// What nobody outside knows: keys that collide cannot be chosen.
    fn seed(&self) -> u64;
    /// Whether a flow in this state, last seen then, is over.
    fn is_expired(&self, state: u8, last_seen: u64) -> bool;
    /// What this CPU's search is kept in.
    fn search(&self) -> Option<&Search>;
    /// [`displaced`], which a program may keep out of line.
    fn displaced(&self, key: &FlowKey) -> u32;
    /// [`places`], likewise.
    fn places(&self, buckets: [u32; 2], end: [u64; 2]) -> u32;
}

/// What became of a flow that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is there.
    Done,
    /// It is there, and a flow that had not expired is gone for it.
    Evicted,
    /// There is no place for it, or others wrote to it each time.
    Refused,
}

/// Where a key belongs.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    /// A keyed hash: two lanes of a multiply and a shift a word, which the processor works on at
    /// once, and the finish of MurmurHash3 (public domain), after which every bit depends on all.
    #[inline(always)]
    fn of(words: KeyWords, seed: u64) -> Self {
        const A: u64 = 0xff51_afd7_ed55_8ccd;
        const B: u64 = 0xc4ce_b9fe_1a85_ec53;
        const fn mix(word: u64, by: u64) -> u64 {
            let mixed = (word ^ word >> 32).wrapping_mul(by);
            mixed ^ mixed >> 29
        }
        let [a, b, c, d, e] = words;
        let left = mix(mix(a ^ seed, A) ^ c, B);
        let right = mix(mix(b ^ seed.rotate_left(32), B) ^ d, A);
        Self(mix(mix(left ^ right.rotate_left(21) ^ e, A), B))
    }

    #[inline(always)]
    const fn first(self, mask: u32) -> u32 {
        (self.0 >> 32) as u32 & mask
    }
    /// Never the first. It follows from the home alone: what the home remembers of it is of one
    /// bucket.
    #[inline(always)]
    const fn second(self, mask: u32) -> u32 {
        let home = self.first(mask) << 3 | self.way();
        (self.first(mask) ^ (home.wrapping_mul(0x9e37_79b1) >> 13 | 1)) & mask
    }
    /// The home's place in the first bucket.
    #[inline(always)]
    const fn way(self) -> u32 {
        (self.0 >> 29) as u32 & (BUCKET_SLOTS - 1)
    }
}

/// The two buckets of a key.
#[derive(Clone, Copy)]
struct Both<'a> {
    indices: [u32; 2],
    first: &'a FlowBucket,
    second: &'a FlowBucket,
}

impl<'a> Both<'a> {
    #[inline(always)]
    fn of(buckets: &'a impl Buckets, hash: Hash) -> Option<Self> {
        let mask = buckets.mask();
        Self::at(buckets, [hash.first(mask), hash.second(mask)])
    }

    #[inline(always)]
    fn at(buckets: &'a impl Buckets, indices: [u32; 2]) -> Option<Self> {
        let [first, second] = indices;
        Some(Self { indices, first: buckets.bucket(first)?, second: buckets.bucket(second)? })
    }

    #[inline(always)]
    fn bucket(self, member: u32) -> &'a FlowBucket {
        if member < BUCKET_SLOTS { self.first } else { self.second }
    }

    #[inline(always)]
    fn slot(self, member: u32) -> &'a FlowSlot {
        slot(self.bucket(member), member)
    }
}

#[inline(always)]
fn slot(bucket: &FlowBucket, way: u32) -> &FlowSlot {
    &bucket.slots[(way & (BUCKET_SLOTS - 1)) as usize]
}

/// How the flow in a slot began.
#[inline(always)]
fn begun(bucket: &FlowBucket, way: u32) -> &Word {
    &bucket.begun[(way & (BUCKET_SLOTS - 1)) as usize]
}

/// Copies the flow of a key; false if there is none. If `seen` says so of the copy, it was last
/// seen now.
#[inline(always)]
pub fn get(
    buckets: &impl Buckets,
    key: &FlowKey,
    flow: &mut FlowValue,
    seen: impl FnOnce(&FlowValue) -> Option<u64>,
) -> bool {
    let hash = Hash::of(key.words(), buckets.seed());
    let Some(first) = buckets.bucket(hash.first(buckets.mask())) else {
        return false;
    };
    let mut found = slot(first, hash.way());
    if !found.read(begun(first, hash.way()), key, flow) {
        if found.head().members() == 0 {
            return false;
        }
        let at = buckets.displaced(key);
        let Some(bucket) = buckets.bucket(at / BUCKET_SLOTS) else {
            return false;
        };
        found = slot(bucket, at);
        if !found.read(begun(bucket, at), key, flow) {
            return false;
        }
    }
    if let Some(now) = seen(flow) {
        found.touch(now);
    }
    true
}

/// No slot.
pub const NOWHERE: u32 = u32::MAX;

/// Where a flow lies that is not at home: its bucket's index times eight, and its place in it;
/// [`NOWHERE`] if it is not there.
#[inline(always)]
pub fn displaced(buckets: &impl Buckets, key: &FlowKey) -> u32 {
    let hash = Hash::of(key.words(), buckets.seed());
    let (Some(both), Some(search)) = (Both::of(buckets, hash), buckets.search()) else {
        return NOWHERE;
    };
    if !elsewhere(both, search, key, both.slot(hash.way()).head().members()) {
        return NOWHERE;
    }
    let member = search.taken.member.load() as u32;
    let (mask, way) = (buckets.mask(), member & (BUCKET_SLOTS - 1));
    (if member < BUCKET_SLOTS { hash.first(mask) } else { hash.second(mask) }) * BUCKET_SLOTS + way
}

/// Looks for a key among the slots that its home has elsewhere; the search then knows which it is.
#[inline(always)]
fn elsewhere(both: Both, search: &Search, key: &FlowKey, members: u32) -> bool {
    search.taken.member.store(u64::from(CHOICES));
    for member in 0..CHOICES {
        if members >> member & 1 != 0 && both.slot(member).has(key) {
            search.taken.member.store(u64::from(member));
            break;
        }
    }
    search.taken.member.load() < u64::from(CHOICES)
}

/// Looks for a key; the search then knows its slot, and the head that it has with this key.
#[inline(always)]
fn find(both: Both, search: &Search, key: &FlowKey, hash: Hash) -> bool {
    let home = both.slot(hash.way());
    search.taken.member.store(u64::from(hash.way()));
    if !(home.head().is_occupied() && home.has(key)) {
        let members = home.head().members();
        if members == 0 || !elsewhere(both, search, key, members) {
            return false;
        }
    }
    let slot = both.slot(search.taken.member.load() as u32);
    let head = slot.head();
    search.taken.head.store(head.bits());
    head.is_occupied() && slot.has(key)
}

/// Lets the home of a key know, or forget, where its flow lies.
#[inline(always)]
fn tell_home(buckets: &impl Buckets, hash: Hash, member: u32, is_there: bool) {
    // At home there is nothing to remember.
    if member == hash.way() {
        return;
    }
    if let Some(bucket) = buckets.bucket(hash.first(buckets.mask())) {
        let home = slot(bucket, hash.way());
        if is_there { home.add_member(member) } else { home.remove_member(member) }
    }
}

/// Stores a flow, or what is known of it now; or, if that is nothing, removes it. A flow that is to
/// be removed and that others write to each time stays: it is judged again anyway.
///
/// `attempt` is [`attempt`], which a program may keep out of line.
#[inline(always)]
pub fn put(mut attempt: impl FnMut() -> Option<Stored>) -> Stored {
    for _ in 0..ATTEMPTS {
        if let Some(stored) = attempt() {
            return stored;
        }
    }
    Stored::Refused
}

/// Stores or removes a flow; `None`: another writer was faster.
#[inline(always)]
pub fn attempt(buckets: &impl Buckets, key: &FlowKey, flow: Option<&FlowValue>) -> Option<Stored> {
    let hash = Hash::of(key.words(), buckets.seed());
    let (Some(both), Some(search)) = (Both::of(buckets, hash), buckets.search()) else {
        return Some(Stored::Refused);
    };
    let stored = if find(both, search, key, hash) {
        Stored::Done
    } else if flow.is_some() {
        choose(buckets, both, search, key, hash)
    } else {
        return Some(Stored::Done);
    };
    if stored == Stored::Refused {
        return Some(Stored::Refused);
    }
    let (member, head) = (search.taken.member.load() as u32, Head::of(search.taken.head.load()));
    let slot = both.slot(member);
    // If the claim succeeds nobody has written since the head was read.
    if !slot.claim(head) {
        return None;
    }
    let is_ours = head.is_occupied() && slot.has(key);
    if !is_ours {
        if head.is_occupied() {
            leave(buckets, slot, member, hash);
        }
        slot.write_key(key);
    }
    if !is_ours || flow.is_none() {
        tell_home(buckets, hash, member, flow.is_some());
    }
    slot.release(begun(both.bucket(member), member), head, flow);
    Some(stored)
}

/// The flow in a claimed slot makes room: its home forgets it. `hash` and `member` are of the
/// flow that comes.
#[inline(always)]
fn leave(buckets: &impl Buckets, slot: &FlowSlot, member: u32, hash: Hash) {
    let mask = buckets.mask();
    let here = if member < BUCKET_SLOTS { hash.first(mask) } else { hash.second(mask) };
    let old = Hash::of(slot.words(), buckets.seed());
    let way = member & (BUCKET_SLOTS - 1);
    let member = if old.first(mask) == here { way } else { way + BUCKET_SLOTS };
    tell_home(buckets, old, member, false);
}
