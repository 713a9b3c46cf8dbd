//! Who makes room for a new flow.

use super::{Both, Buckets, CHOICES, Hash, Stored};
use crate::Word;
use crate::layout::{BUCKET_SLOTS, FLOW_ESTABLISHED, FlowKey, FlowSlot, FlowState, Head, KeyWords};

/// How far a search has come. In memory, so that the verifier takes what is found for any: it
/// would else follow what comes after once for each slot.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Search {
    /// What the home calls the slot: below 8 in the first bucket, else in the second.
    pub(super) member: Word,
    /// The head that it was chosen by.
    pub(super) head: Word,
    /// Of the best choice: how willingly it is given up, and when it was last seen.
    pub(super) rank: Word,
    /// The end that may have more than half of the places, and by how much it leads.
    pub(super) crowd: [Word; 2],
    pub(super) lead: Word,
    /// Its places.
    pub(super) count: Word,
    /// Zero.
    reserved: Word,
    /// Free slots of the first and of the second bucket.
    pub(super) free: [Free; 2],
}
const _: () = assert!(size_of::<Search>() == 112);

/// Free slots of one bucket: how many, and the first of them with its head.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Free {
    pub(super) count: Word,
    pub(super) member: Word,
    pub(super) head: Word,
}

/// The end that is not this host's, of a key's words: whoever began what comes in, whom what goes
/// out is for.
#[inline(always)]
const fn other_end(words: KeyWords) -> [u64; 2] {
    let [a, b, c, d, e] = words;
    // The direction is the uppermost byte.
    if e >> 56 == 0 { [a, b] } else { [c, d] }
}

/// An unreplied or ending flow, whose end is the new one's.
const OWN_PENDING: u64 = 0;
/// One of another end.
const PENDING: u64 = 1;
/// A live conversation with the new flow's end.
const OWN_LIVE: u64 = 2;
/// None.
const NO_CHOICE: u64 = 3;

const RANK_SHIFT: u32 = 62;

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
    search.rank.store(NO_CHOICE << RANK_SHIFT);
    search.lead.store(0);
    search.free[0].count.store(0);
    search.free[1].count.store(0);
    for index in 0..CHOICES {
        // From the home on.
        let member = (hash.way() + index) & (BUCKET_SLOTS - 1) | index & BUCKET_SLOTS;
        let slot = both.slot(member);
        let head = slot.head();
        if head.is_claimed() {
            continue;
        }
        let last_seen = slot.last_seen();
        if !head.is_occupied() || buckets.is_expired(head.state(), last_seen) {
            let free = if index < BUCKET_SLOTS { &search.free[0] } else { &search.free[1] };
            found_free(free, member, head);
            if index == 0 {
                break;
            }
            continue;
        }
        let of = other_end(slot.words());
        let rank = match (is_live(head), of == end) {
            (false, true) => OWN_PENDING,
            (false, false) => PENDING,
            (true, true) => OWN_LIVE,
            (true, false) => NO_CHOICE,
        };
        let rank = rank << RANK_SHIFT | last_seen & !(3 << RANK_SHIFT);
        if rank < search.rank.load() {
            search.rank.store(rank);
            search.member.store(u64::from(member));
            search.head.store(head.bits());
        }
        count_in(search, of);
    }
    if search.free[0].count.load() | search.free[1].count.load() != 0 {
        take_free(search);
        return Stored::Done;
    }
    if search.rank.load() >> RANK_SHIFT >= OWN_LIVE {
        crowd_out(both, search);
    }
    if search.rank.load() >> RANK_SHIFT == NO_CHOICE { Stored::Refused } else { Stored::Evicted }
}

/// Notes a free slot.
#[inline(always)]
fn found_free(free: &Free, member: u32, head: Head) {
    let before = free.count.load();
    if before == 0 {
        free.member.store(u64::from(member));
        free.head.store(head.bits());
    }
    free.count.store(before + 1);
}

/// Chooses the free slot nearest to home in the bucket with more of them, which keeps buckets from
/// filling up while others are empty. There is one.
#[inline(always)]
fn take_free(search: &Search) {
    let [first, second] = &search.free;
    let free = if second.count.load() > first.count.load() { second } else { first };
    search.member.store(free.member.load());
    search.head.store(free.head.load());
}

/// Whether a flow is a conversation that lives, which is not given up for any other.
#[inline(always)]
const fn is_live(head: Head) -> bool {
    head.flags() & FLOW_ESTABLISHED != 0
        && head.state() != FlowState::TcpClosing as u8
        && head.state() != FlowState::SctpClosing as u8
}

/// The vote of one place: whoever has more than half of them leads at the end (Boyer and Moore).
#[inline(always)]
fn count_in(search: &Search, end: [u64; 2]) {
    let lead = search.lead.load();
    let lead = if lead == 0 {
        search.crowd[0].store(end[0]);
        search.crowd[1].store(end[1]);
        1
    } else if end == [search.crowd[0].load(), search.crowd[1].load()] {
        lead + 1
    } else {
        lead - 1
    };
    search.lead.store(lead);
}

/// If one end has more than half of both buckets, the choice is whichever of its flows was silent
/// longest.
#[inline(always)]
fn crowd_out(both: Both, search: &Search) {
    let crowd = [search.crowd[0].load(), search.crowd[1].load()];
    let is_of_crowd = |slot: &FlowSlot| slot.head().is_occupied() && other_end(slot.words()) == crowd;
    search.count.store(0);
    for member in 0..CHOICES {
        if is_of_crowd(both.slot(member)) {
            search.count.store(search.count.load() + 1);
        }
    }
    if search.count.load() <= u64::from(CHOICES / 2) {
        return;
    }
    search.rank.store(NO_CHOICE << RANK_SHIFT);
    for member in 0..CHOICES {
        let slot = both.slot(member);
        let head = slot.head();
        let rank = OWN_LIVE << RANK_SHIFT | slot.last_seen() & !(3 << RANK_SHIFT);
        if !head.is_claimed() && is_of_crowd(slot) && rank < search.rank.load() {
            search.rank.store(rank);
            search.member.store(u64::from(member));
            search.head.store(head.bits());
        }
    }
}
