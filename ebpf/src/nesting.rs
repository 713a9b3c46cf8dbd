//! Where a packet is worked on, so that no other one is worked on there. Programs run with bottom
//! halves disabled, so on most kernels those of one direction do not interrupt each other on a CPU, and
//! a direction has one place. On real-time kernels any thread may interrupt another one's program and
//! run its own (docs/decisions/0021): there a program takes one of the CPU's places in the name of its
//! thread, and gives it back. What is in the way of that is not there on other kernels.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use bulkhead_abi::{DIRECTIONS, Direction, NESTING_LEVELS, Word};
use bulkhead_engine::Metadata;

use crate::maps::METADATA;
use crate::settings;

/// One entry: the threads that have this CPU's places; 0: it is free.
#[map]
static AT_WORK: PerCpuArray<[Word; NESTING_LEVELS as usize]> = PerCpuArray::with_max_entries(1, 0);

/// No place.
const NOWHERE: u32 = u32::MAX;

/// A place of this CPU.
#[derive(Clone, Copy)]
pub(crate) struct Place(u32);

impl Place {
    /// Takes one for a packet of this direction; `None`: none is free.
    #[inline(always)]
    pub(crate) fn take(direction: Direction) -> Option<Self> {
        if settings::is_realtime() { Self::at(place_take()) } else { Some(Self(direction.index())) }
    }

    /// The one that the program has taken that observes before this one; else takes one.
    #[inline(always)]
    pub(crate) fn enter(direction: Direction) -> Option<Self> {
        if settings::is_realtime() && settings::has_staged() {
            Self::at(place_own()).or_else(|| Self::take(direction))
        } else {
            Self::take(direction)
        }
    }

    #[inline(always)]
    fn at(level: u32) -> Option<Self> {
        (level != NOWHERE).then_some(Self(level))
    }

    /// Gives it back. Nothing of it may be used any more.
    #[inline(always)]
    pub(crate) fn give_back(self) {
        if settings::is_realtime() {
            place_give_back(self.0);
        }
    }

    /// The metadata that is worked on there.
    #[inline(always)]
    pub(crate) fn meta(self) -> Option<&'static mut Metadata> {
        // SAFETY: whoever has the place is alone there. All zeros is valid.
        METADATA.get_ptr_mut(self.0).map(|meta| unsafe { &mut *meta })
    }

    /// The staged's view of the same packet.
    #[inline(always)]
    pub(crate) fn staged_meta(self) -> Option<&'static mut Metadata> {
        Self(self.0 + if settings::is_realtime() { NESTING_LEVELS } else { DIRECTIONS }).meta()
    }
}

/// The entry of a per-CPU array that the running program has for itself alone while it works, where
/// programs of either direction use one; one that is not there if it has no place.
#[inline(always)]
pub(crate) fn own_entry() -> u32 {
    if settings::is_realtime() { place_own() } else { 0 }
}

/// Adds to a word of this CPU's own; on a real-time kernel so that programs which interrupt this one
/// may, too.
///
/// # Safety
/// It must be an aligned word of a map's value.
#[inline(always)]
pub(crate) unsafe fn add(word: *mut u64, amount: u64) {
    if settings::is_realtime() {
        // SAFETY: the caller's.
        unsafe { Word::at(word) }.add(amount);
    } else {
        // SAFETY: the caller's.
        unsafe { *word += amount };
    }
}

/// The thread that runs this program: on a real-time kernel that is all that tells programs apart which
/// are at work on one CPU.
#[inline(always)]
fn thread() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() }
}

/// Takes a place: its number, or [`NOWHERE`]. A global function, as the two below: the verifier does
/// not follow each place by itself from there on.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn place_take() -> u32 {
    let thread = thread();
    let free = |word: &Word| word.compare_exchange(0, thread) == 0;
    AT_WORK.get(0).and_then(|words| words.iter().position(free)).map_or(NOWHERE, |level| level as u32)
}

/// The place that this thread has, or [`NOWHERE`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn place_own() -> u32 {
    let thread = thread();
    let own = |word: &Word| word.load() == thread;
    AT_WORK.get(0).and_then(|words| words.iter().position(own)).map_or(NOWHERE, |level| level as u32)
}

/// Gives a place back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn place_give_back(level: u32) -> u32 {
    if let Some(words) = AT_WORK.get(0) {
        words[(level & (NESTING_LEVELS - 1)) as usize].store(0);
    }
    0
}
