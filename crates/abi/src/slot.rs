//! How flows lie in their table: one cache line each, eight in a bucket, and behind them how each began.

use crate::{FLOW_TLS, FlowKey, FlowValue, Word};

/// Slots in a bucket.
pub const BUCKET_SLOTS: u32 = 8;

/// The place of one flow.
///
/// `head`, from the lowest bit:
///
/// | bits | meaning |
/// |---|---|
/// | 0..=7 | the flow's state |
/// | 8..=14 | its flags |
/// | 15 | there is a flow |
/// | 16..=31 | which other slots hold flows whose home this slot is: of this bucket, of the second one |
/// | 32..=63 | version: odd while the slot is claimed by a writer |
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct FlowSlot {
    key: [Word; 5],
    last_seen: Word,
    /// The generation, and the rule in the upper half.
    admitted: Word,
    head: Word,
}
const _: () = assert!(size_of::<FlowSlot>() == 64);

/// Eight slots, and how the flow in each began.
#[repr(C)]
#[derive(Debug, Default)]
pub struct FlowBucket {
    /// Its slots.
    pub slots: [FlowSlot; BUCKET_SLOTS as usize],
    /// [`FlowValue::begun`] of each, the first byte lowest. Meaningful with [`FLOW_TLS`].
    pub begun: [Word; BUCKET_SLOTS as usize],
}
const _: () = assert!(size_of::<FlowBucket>() == 576);

impl FlowBucket {
    /// Of the bucket behind the last, which holds no flows: the table's seed; 0: it has none yet.
    #[inline(always)]
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.slots[0].last_seen.load()
    }

    /// Gives the table a seed. It must be empty.
    pub fn set_seed(&self, seed: u64) {
        self.slots[0].last_seen.store(seed);
    }
}

/// A key as it is compared.
pub type KeyWords = [u64; 5];

const OCCUPIED: u64 = 1 << 15;
const FIELDS: u64 = 0xffff;
const MEMBERS_SHIFT: u32 = 16;
const VERSION: u64 = 1 << 32;

/// How often a slot is read again that somebody is writing.
const READS: u32 = 4;

impl FlowKey {
    /// Writes it by whole words. What is written in parts and read as a whole right after would
    /// wait until all parts have left the processor's store buffer.
    #[inline(always)]
    pub fn set(&mut self, key: Self) {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let ([a, b, c, d], [e, f, g, h]) = (key.initiator, key.responder);
        let ports = u32::from(key.initiator_port) | u32::from(key.responder_port) << 16;
        let rest = u32::from(key.zone) | u32::from(key.protocol) << 16 | u32::from(key.direction) << 24;
        let words = [pair(a, b), pair(c, d), pair(e, f), pair(g, h), pair(ports, rest)];
        for (index, word) in words.into_iter().enumerate() {
            // SAFETY: five aligned words without padding, of which any bits are a key.
            unsafe { core::ptr::from_mut(self).cast::<u64>().add(index).write_volatile(word) };
        }
    }

    /// One of its words, as it lies in memory.
    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        const { assert!(cfg!(target_endian = "little") && align_of::<Self>() == 8) };
        debug_assert!(index < size_of::<KeyWords>() / 8);
        // SAFETY: five aligned words without padding; volatile, since what is read again need not
        // be kept on the stack.
        unsafe { core::ptr::from_ref(self).cast::<u64>().add(index).read_volatile() }
    }

    /// All of them.
    #[inline(always)]
    pub fn words(&self) -> KeyWords {
        [self.word(0), self.word(1), self.word(2), self.word(3), self.word(4)]
    }
}

/// The key of these words.
fn key_of(words: KeyWords) -> FlowKey {
    let (low, high) = (|word: u64| word as u32, |word: u64| (word >> 32) as u32);
    let [a, b, c, d, e] = words;
    FlowKey {
        initiator: [low(a), high(a), low(b), high(b)],
        responder: [low(c), high(c), low(d), high(d)],
        initiator_port: e as u16,
        responder_port: (e >> 16) as u16,
        zone: (e >> 32) as u16,
        protocol: (e >> 48) as u8,
        direction: (e >> 56) as u8,
    }
}

/// [`FlowValue::begun`] as it lies in a word.
#[inline(always)]
const fn packed([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

#[inline(always)]
const fn unpacked(word: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = word.to_le_bytes();
    [a, b, c, d, e, f]
}

/// What a slot's head says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head(u64);

impl Head {
    /// The head of these bits.
    #[inline(always)]
    #[must_use]
    pub const fn of(bits: u64) -> Self {
        Self(bits)
    }
    /// Its bits, as they lie in the slot.
    #[inline(always)]
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
    /// Whether the slot has a flow.
    #[inline(always)]
    #[must_use]
    pub const fn is_occupied(self) -> bool {
        self.0 & OCCUPIED != 0
    }
    /// Whether somebody is writing the slot: its version is odd.
    #[inline(always)]
    #[must_use]
    pub const fn is_claimed(self) -> bool {
        self.0 & VERSION != 0
    }
    /// The flow's [`FlowState`](crate::FlowState), as a number.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> u8 {
        self.0 as u8
    }
    /// The flow's `FLOW_` bits.
    #[inline(always)]
    #[must_use]
    pub const fn flags(self) -> u8 {
        (self.0 >> 8) as u8 & 0x7f
    }
    /// Which other slots hold flows whose home this one is: a bit each.
    #[inline(always)]
    #[must_use]
    pub const fn members(self) -> u32 {
        (self.0 >> MEMBERS_SHIFT) as u32 & 0xffff
    }
    #[inline(always)]
    const fn same_version(self, other: Self) -> bool {
        self.0 >> 32 == other.0 >> 32
    }
}

impl FlowSlot {
    /// What its head says now.
    #[inline(always)]
    #[must_use]
    pub fn head(&self) -> Head {
        Head(self.head.load())
    }

    /// Whether its key is this one. Of a slot that is being written it may be either.
    #[inline(always)]
    pub fn has(&self, key: &FlowKey) -> bool {
        let differs = |index: usize| self.key[index].load() ^ key.word(index);
        differs(4) | differs(1) | differs(3) | differs(0) | differs(2) == 0
    }

    /// The key's words.
    #[inline(always)]
    pub fn words(&self) -> KeyWords {
        let [a, b, c, d, e] = &self.key;
        [a.load(), b.load(), c.load(), d.load(), e.load()]
    }

    /// When its flow was last seen.
    #[inline(always)]
    pub fn last_seen(&self) -> u64 {
        self.last_seen.load()
    }

    /// Says that its flow was seen.
    #[inline(always)]
    pub fn touch(&self, now: u64) {
        self.last_seen.store(now);
    }

    /// Copies the flow of this key as it was at one moment; false if it is another's, or if it
    /// was being written each time. `begun` is the slot's own word in its bucket.
    #[inline(always)]
    pub fn read(&self, begun: &Word, key: &FlowKey, flow: &mut FlowValue) -> bool {
        for _ in 0..READS {
            let head = self.head();
            if !head.is_occupied() || !self.has(key) {
                return false;
            }
            if head.is_claimed() {
                continue;
            }
            let admitted = self.admitted.load();
            // Field by field, since a copy of it lies on no program's stack that has room for it.
            flow.last_seen = self.last_seen();
            (flow.generation, flow.rule) = (admitted as u32, (admitted >> 32) as u32);
            (flow.state, flow.flags) = (head.state(), head.flags());
            flow.begun = [0; 6];
            if head.flags() & FLOW_TLS != 0 {
                flow.begun = unpacked(begun.load());
            }
            if self.head().same_version(head) {
                return true;
            }
        }
        false
    }

    /// Its flow, for whoever reads the whole table; `None` if there is none, or it is being written. How it began is
    /// the programs' own affair, and left out: a flow that goes into another table is not looked at any more.
    #[must_use]
    pub fn flow(&self) -> Option<(FlowKey, FlowValue)> {
        let key = key_of(self.words());
        let mut flow = FlowValue::NONE;
        let is_there = self.read(&Word::new(0), &key, &mut flow);
        flow.flags &= !FLOW_TLS;
        is_there.then_some((key, flow))
    }

    /// Claims the slot for writing if its head is still as it was read, and unclaimed.
    #[inline(always)]
    pub fn claim(&self, head: Head) -> bool {
        !head.is_claimed() && self.head.compare_exchange(head.0, head.0.wrapping_add(VERSION)) == head.0
    }

    /// Of a claimed slot: writes the key.
    #[inline(always)]
    pub fn write_key(&self, key: &FlowKey) {
        for index in 0..self.key.len() {
            self.key[index].store(key.word(index));
        }
    }

    /// Of a claimed slot, `head` being what it was claimed at: writes the flow, or that there is
    /// none, and gives the slot back. `begun` is the slot's own word in its bucket.
    #[inline(always)]
    pub fn release(&self, begun: &Word, head: Head, flow: Option<&FlowValue>) {
        let fields = match flow {
            Some(flow) => {
                if flow.flags & FLOW_TLS != 0 {
                    begun.store(packed(flow.begun));
                }
                self.last_seen.store(flow.last_seen);
                self.admitted.store(u64::from(flow.generation) | u64::from(flow.rule) << 32);
                OCCUPIED | u64::from(flow.flags & 0x7f) << 8 | u64::from(flow.state)
            }
            None => 0,
        };
        // Members may come and go meanwhile; these sixteen bits are the claimer's, so that adding
        // the difference neither carries out of them nor borrows.
        self.head.add(VERSION.wrapping_add(fields).wrapping_sub(head.0 & FIELDS));
    }

    /// Remembers that a slot holds a flow whose home this is.
    #[inline(always)]
    pub fn add_member(&self, member: u32) {
        self.head.set(1 << (MEMBERS_SHIFT + (member & 15)));
    }

    /// Forgets it.
    #[inline(always)]
    pub fn remove_member(&self, member: u32) {
        self.head.clear(1 << (MEMBERS_SHIFT + (member & 15)));
    }
}
