//! Who makes room for a new flow.

use bulkhead_abi::{
    BUCKET_SLOTS, FLOW_AUDIT, FLOW_ESTABLISHED, FlowKey, FlowSlot, FlowState, Head, KeyWords, Word,
};

use super::{Both, Buckets, CHOICES, Hash, Stored};

/// So many of a flow's places make room for an end that has some itself,
const CROWD: u32 = CHOICES / 2 + 1;
/// and so many for one that has none: whoever has an address of each family, or a few, cannot
/// share all places among them and leave others none.
const MANY: u32 = CHOICES / 4;

/// How far a search has come. In memory, so that the verifier takes what is found for any: it
/// would else follow what comes after once for each slot.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Search {
    /// The slot that is taken.
    pub(super) taken: Offer,
    /// An opening or an ending flow that may be given up; or a conversation of a crowd's.
    best: Offer,
    /// A conversation of the new flow's own other end, and how many there are.
    own: Offer,
    own_count: Word,
    /// The end with the most places, and how many.
    crowd: [Word; 2],
    most: Word,
    /// Free slots of the first and of the second bucket, and how many.
    free: [Offer; 2],
    free_count: [Word; 2],
}
const _: () = assert!(size_of::<Search>() == 168);

/// A slot that may be had.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// The lower, the sooner it is given up.
    rank: Word,
    /// What the home calls the slot: below 8 in the first bucket, else in the second.
    pub(super) member: Word,
    /// The head that it was chosen by.
    pub(super) head: Word,
}

impl Offer {
    #[inline(always)]
    fn clear(&self) {
        self.rank.store(u64::MAX);
    }
    #[inline(always)]
    fn is_there(&self) -> bool {
        self.rank.load() != u64::MAX
    }
    /// Takes a slot's place if that one is given up sooner.
    #[inline(always)]
    fn consider(&self, rank: u64, member: u32, head: Head) {
        if rank < self.rank.load() {
            self.rank.store(rank);
            self.member.store(u64::from(member));
            self.head.store(head.bits());
        }
    }
    #[inline(always)]
    fn take(&self, other: &Self) {
        self.member.store(other.member.load());
        self.head.store(other.head.load());
    }
}

/// The end that is not this host's, of a key's words: whoever began what comes in, whom what goes
/// out is for.
#[inline(always)]
const fn other_end(words: KeyWords) -> [u64; 2] {
    let [a, b, c, d, e] = words;
    // The direction is the uppermost byte.
    if e >> 56 == 0 { [a, b] } else { [c, d] }
}

/// Of a rank: the flow is of another end than the new one. Below is when it was last seen.
const OTHERS: u64 = 1 << 62;

/// Chooses a slot for a new flow, and says what storing it there comes to; the search knows which
/// it is and what its head was.
#[inline(always)]
pub(super) fn choose(
    buckets: &impl Buckets,
    both: Both,
    search: &Search,
    key: &FlowKey,
    hash: Hash,
) -> Stored {
    let end = other_end(key.words());
    search.best.clear();
    search.own.clear();
    search.own_count.store(0);
    search.free_count[0].store(0);
    search.free_count[1].store(0);
    for index in 0..CHOICES {
        // From the home on.
        let member = (hash.way() + index) & (BUCKET_SLOTS - 1) | index & BUCKET_SLOTS;
        if consider(buckets, both, search, end, member) && index == 0 {
            break;
        }
    }
    if take_free(search) {
        return Stored::Done;
    }
    give_up(buckets, both, search)
}

/// Notes what may be had of a slot by a flow of this end; whether it is free.
#[inline(always)]
fn consider(buckets: &impl Buckets, both: Both, search: &Search, end: [u64; 2], member: u32) -> bool {
    let slot = both.slot(member);
    let head = slot.head();
    if head.is_claimed() {
        return false;
    }
    let last_seen = slot.last_seen() & (OTHERS - 1);
    if !head.is_occupied() || buckets.is_expired(head.state(), last_seen) {
        found_free(search, member >= BUCKET_SLOTS, member, head);
        return true;
    }
    let is_own = other_end(slot.words()) == end;
    if !is_live(head) {
        search.best.consider(if is_own { 0 } else { OTHERS } | last_seen, member, head);
    } else if is_own {
        search.own.consider(last_seen, member, head);
        search.own_count.store(search.own_count.load() + 1);
    }
    false
}

/// Chooses whom the new flow pushes out: an opening or an ending flow, its own end's first; or
/// else a conversation, of whoever has too many, or of its own end. An end with more than half of
/// the places gives up its own before others' openings.
#[inline(always)]
fn give_up(buckets: &impl Buckets, both: Both, search: &Search) -> Stored {
    let own = search.own_count.load();
    let (best, is_crowd) = (search.best.rank.load(), own >= u64::from(CROWD));
    if best >= OTHERS && is_crowd {
        search.taken.take(&search.own);
        return Stored::Evicted;
    }
    if !search.best.is_there() {
        crowd_out(buckets, both, search, if own == 0 { MANY } else { CROWD });
    }
    if search.best.is_there() {
        search.taken.take(&search.best);
    } else if search.own.is_there() {
        search.taken.take(&search.own);
    } else {
        return Stored::Refused;
    }
    Stored::Evicted
}

/// Notes a free slot.
#[inline(always)]
fn found_free(search: &Search, second: bool, member: u32, head: Head) {
    let (free, count) = if second {
        (&search.free[1], &search.free_count[1])
    } else {
        (&search.free[0], &search.free_count[0])
    };
    let before = count.load();
    if before == 0 {
        free.member.store(u64::from(member));
        free.head.store(head.bits());
    }
    count.store(before + 1);
}

/// Chooses the free slot nearest to home in the bucket with more of them, which keeps buckets from
/// filling up while others are empty; false if there is none.
#[inline(always)]
fn take_free(search: &Search) -> bool {
    let (first, second) = (search.free_count[0].load(), search.free_count[1].load());
    if first | second == 0 {
        return false;
    }
    search.taken.take(if second > first { &search.free[1] } else { &search.free[0] });
    true
}

/// Whether a flow is a conversation that lives, which is not given up for any other. What only
/// audit mode let pass is none.
#[inline(always)]
const fn is_live(head: Head) -> bool {
    head.flags() & (FLOW_ESTABLISHED | FLOW_AUDIT) == FLOW_ESTABLISHED
        && head.state() != FlowState::TcpClosing as u8
        && head.state() != FlowState::SctpClosing as u8
}

/// If an end has at least so many places, of the one with the most the best choice is whichever
/// flow was silent longest.
#[inline(always)]
fn crowd_out(buckets: &impl Buckets, both: Both, search: &Search, least: u32) {
    search.most.store(u64::from(least) - 1);
    for member in 0..CHOICES {
        let end = other_end(both.slot(member).words());
        let count = u64::from(buckets.places(both.indices, end));
        if count > search.most.load() {
            search.most.store(count);
            search.crowd[0].store(end[0]);
            search.crowd[1].store(end[1]);
        }
    }
    if search.most.load() < u64::from(least) {
        return;
    }
    let crowd = [search.crowd[0].load(), search.crowd[1].load()];
    for member in 0..CHOICES {
        let slot = both.slot(member);
        let head = slot.head();
        if !head.is_claimed() && is_of(slot, crowd) {
            search.best.consider(slot.last_seen() & (OTHERS - 1), member, head);
        }
    }
}

/// How many places in two buckets, which are named by index, flows of an end have.
#[inline(always)]
pub fn places(buckets: &impl Buckets, indices: [u32; 2], end: [u64; 2]) -> u32 {
    let Some(both) = Both::at(buckets, indices) else {
        return 0;
    };
    (0..CHOICES).map(|member| u32::from(is_of(both.slot(member), end))).sum()
}

/// Whether there is a flow of this end.
#[inline(always)]
fn is_of(slot: &FlowSlot, end: [u64; 2]) -> bool {
    slot.head().is_occupied() && other_end(slot.words()) == end
}
