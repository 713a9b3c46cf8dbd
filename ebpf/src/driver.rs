//! The one way of a packet through a program, whatever hook it is on: the fast path, else metadata that is
//! decided on, counted and reported.

use aya_ebpf::EbpfContext;
use bulkhead_abi::Direction;
use bulkhead_engine::{Action, Environment as _, FastPath, Metadata, Packet, decide_parsed, fast_path};

use crate::audit::{conclude, conclude_settled};
use crate::counters::count_crowded_out;
use crate::environment::{MAPS, View};
use crate::nesting::Place;
use crate::sockets;

/// What a hook hands a program.
pub(crate) trait Hook: EbpfContext {
    /// What its sockets are asked by.
    type Sockets: sockets::Hook;

    /// The packet, as far as it lies in linear memory.
    fn packet(&self) -> Packet<'_>;
    /// Parses the packet into its metadata.
    fn parse(&self, meta: &mut Metadata) -> Packet<'_>;
    /// The context.
    fn sockets(&self) -> Self::Sockets;
    /// Index of the interface.
    fn interface(&self) -> u32;
    /// [`crate::reports::has_budget`], out of line.
    fn has_budget(&self, direction: Direction, is_known: bool) -> bool;
    /// Judges the records of a membership report that goes out, where that was left to do.
    fn judge_report(&self, meta: &mut Metadata, direction: Direction);
}

/// Decides on a packet, counts and reports; what to do with it.
#[inline(always)]
pub(crate) fn run(hook: &impl Hook, direction: Direction) -> Action {
    let packet = hook.packet();
    let judged = match fast_path(&View::<false, _>(hook.sockets()), &packet, direction) {
        Some(FastPath::Verdict(length, outcome, remote)) => {
            let has_budget = |is_known| hook.has_budget(direction, is_known);
            if let Some(action) = conclude_settled((length, outcome, remote), direction, has_budget) {
                return action;
            }
            None
        }
        Some(FastPath::NeedsFlow(judged)) => Some(judged),
        None => None,
    };
    let Some(place) = Place::enter(direction) else {
        return crowded_out(&packet, direction);
    };
    let Some(meta) = place.meta() else {
        return Action::Drop;
    };
    match judged {
        Some(judged) => judged.decide(&View::<false, _>(hook.sockets()), &packet, direction, meta),
        None => {
            let packet = hook.parse(meta);
            decide_parsed(&View::<false, _>(hook.sockets()), &packet, direction, meta);
            hook.judge_report(meta, direction);
        }
    }
    #[cfg(feature = "log")]
    crate::audit::log(hook, meta, direction);
    let action = conclude(meta, place, direction, hook.interface());
    place.give_back();
    action
}

/// Has a staged generation decide on a packet, before the enforced one does. `None`: the packet is dropped,
/// there was no place.
#[inline(always)]
pub(crate) fn observe(hook: &impl Hook, direction: Direction) -> Option<Place> {
    let Some(place) = Place::take(direction) else {
        crowded_out(&hook.packet(), direction);
        return None;
    };
    if let Some(meta) = place.staged_meta() {
        let packet = hook.parse(meta);
        decide_parsed(&View::<true, _>(hook.sockets()), &packet, direction, meta);
    }
    Some(place)
}

/// Drops a packet that there is no place to decide in.
#[inline(always)]
fn crowded_out(packet: &Packet, direction: Direction) -> Action {
    count_crowded_out(packet.length_of_ip(MAPS.ethernet()), direction);
    Action::Drop
}
