//! Reports of drops, as far as the budget goes: in the ring the first of a kind, in an aggregate the others. And of
//! flows as they begin, if they are asked for.
//! Nothing here changes a verdict.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_boot_ns};
use aya_ebpf::maps::HashMap;
use bulkhead_abi::{
    AggregateKey, AggregateValue, Direction, EVENT_AUDIT, EVENT_ODD, Event, KIND_ALLOWED, KIND_DROP,
    KIND_SENDER, LOST_RING, LOST_STAGED, Word,
};
use bulkhead_engine::parse::Headers;
use bulkhead_engine::{
    Budget, Environment as _, Fund, Metadata, Packet, Sharer, is_of_known_sender, plain_ends,
};

use crate::environment::MAPS;
use crate::maps::{
    AGGREGATE_EPOCH, AGGREGATES_0, AGGREGATES_1, BUDGET, EVENTS, LOST_EVENTS, LOST_EVENTS_1, LOST_FLOWS,
};
use crate::nesting::add;
use crate::settings;

/// This CPU's account of its reports. On a real-time kernel programs that interrupt each other may report
/// a few drops more.
#[inline(always)]
fn budget() -> Option<&'static mut Budget> {
    // SAFETY: this CPU's own element. All zeros is a valid account.
    BUDGET.get_ptr_mut(0).map(|budget| unsafe { &mut *budget })
}

/// Whether a drop of a plain packet may be reported. To be called out of line, where the packet's bounds are
/// read once more: what passes would else keep them for it.
#[inline(always)]
pub(crate) fn has_budget(packet: &Packet, direction: Direction, is_known: bool) -> bool {
    let reports = settings::event_budget();
    if reports == 0 {
        return false;
    }
    let sharer = Sharer::new(direction, is_known, plain_ends(&MAPS, packet), MAPS.flow_time());
    budget().is_some_and(|budget| budget.fund(reports, sharer).is_some())
}

/// Pays for a report, if there is anything to pay with.
#[inline(always)]
pub(crate) fn pay(direction: Direction, meta: &Metadata) -> Option<Fund> {
    let reports = settings::event_budget();
    if reports == 0 {
        return None;
    }
    let Metadata { headers, outcome, sides, .. } = meta;
    let ends = [headers.source, headers.destination];
    let is_known = is_of_known_sender(outcome.reason, sides.remote, settings::wide());
    let sharer = Sharer::new(direction, is_known, ends, MAPS.flow_time());
    budget()?.pay(reports, sharer)
}

type Aggregates = HashMap<AggregateKey, AggregateValue>;

/// Which of the two tables of aggregates is in use, and which account counts what is reported.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Even,
    Odd,
}

/// The turn that a report falls into.
#[inline(always)]
pub(crate) fn turn() -> Turn {
    match AGGREGATE_EPOCH.get(0) {
        Some(epoch) if epoch & 1 != 0 => Turn::Odd,
        _ => Turn::Even,
    }
}

#[inline(always)]
fn lose(kind: u32, turn: Turn) {
    let lost = if turn == Turn::Odd && kind == LOST_RING {
        LOST_EVENTS_1.get_ptr_mut(0)
    } else {
        LOST_EVENTS.get_ptr_mut(kind)
    };
    if let Some(lost) = lost {
        // SAFETY: this CPU's own element.
        unsafe { add(lost, 1) };
    }
}

/// Reports a difference of the staged. What is not reported is counted as lost.
#[inline(always)]
pub(crate) fn report_difference(key: impl FnOnce() -> AggregateKey, meta: &Metadata, direction: Direction) {
    match pay(direction, meta) {
        Some(fund) => tell(key, &meta.headers, LOST_STAGED, (turn(), fund)),
        None => lose(LOST_STAGED, Turn::Even),
    }
}

/// Adds to the aggregate of its key. The first of them is told of by an event, if a share pays for it.
#[inline(never)]
pub(crate) fn tell(
    key: impl FnOnce() -> AggregateKey,
    headers: &Headers,
    lost: u32,
    (turn, fund): (Turn, Fund),
) {
    let key = &mut key();
    // SAFETY: the helper has no preconditions.
    let time = unsafe { bpf_ktime_get_boot_ns() };
    let aggregates = if turn == Turn::Odd { &AGGREGATES_1 } else { &AGGREGATES_0 };
    if let Some(value) = aggregates.get_ptr_mut(&*key) {
        add_to(value, headers.length, time);
        return;
    }
    if fund == Fund::Common {
        if !summarise(aggregates, key, headers.length, time) {
            lose(lost, turn);
        }
        return;
    }
    // Another CPU may have been faster, or the table is full: the event tells of this drop anyway.
    let _ = aggregates.insert(&*key, &AggregateValue::default(), u64::from(BPF_NOEXIST));
    let flags = if MAPS.audit() { EVENT_AUDIT } else { 0 } | if turn == Turn::Odd { EVENT_ODD } else { 0 };
    let event = Event {
        time,
        key: *key,
        length: headers.length,
        source_port: headers.source_port,
        detail: headers.detail,
        flags,
        one_in: 0,
    };
    if !submit(event) {
        lose(lost, turn);
    }
}

/// False: the ring has no room.
#[inline(always)]
fn submit(event: Event) -> bool {
    let entry = EVENTS.reserve::<Event>(0);
    let is_there = entry.is_some();
    if let Some(mut entry) = entry {
        entry.write(event);
        entry.submit(0);
    }
    is_there
}

/// Tells of a flow that a rule has let begin, or of one of so many. What is to be told of and is not is counted.
#[inline(never)]
pub(crate) fn report_flow(meta: &Metadata, direction: Direction, interface: u32) {
    let mask = settings::allowed_mask();
    // SAFETY: the helper has no preconditions.
    if mask != 0 && unsafe { bpf_get_prandom_u32() } & mask != 0 {
        return;
    }
    let pays =
        budget().is_some_and(|budget| budget.pay_for_flow(settings::allowed_budget(), MAPS.flow_time()));
    let key = meta.drop_key(direction, interface, settings::generation());
    let Headers { length, source_port, detail, .. } = meta.headers;
    let event = Event {
        // SAFETY: the helper has no preconditions.
        time: unsafe { bpf_ktime_get_boot_ns() },
        key: AggregateKey { kind: KIND_ALLOWED, ..key },
        length,
        source_port,
        detail,
        flags: 0,
        one_in: mask.wrapping_add(1),
    };
    if !(pays && submit(event))
        && let Some(lost) = LOST_FLOWS.get_ptr_mut(0)
    {
        // SAFETY: this CPU's own element.
        unsafe { add(lost, 1) };
    }
}

/// Adds a drop to an aggregate that is there or is made for it: of its key, or, where too many kinds were
/// made in this period, of its sender alone. False: there was no room.
#[inline(always)]
fn summarise(aggregates: &Aggregates, key: &mut AggregateKey, length: u32, time: u64) -> bool {
    if !budget().is_some_and(|budget| budget.may_tell_kind(settings::event_budget())) {
        // What a staged decides otherwise is told of by both rules or not at all.
        if key.kind != KIND_DROP {
            return false;
        }
        (key.destination, key.port, key.protocol, key.kind) = ([0; 4], 0, 0, KIND_SENDER);
    }
    let first = AggregateValue { packets: 1, bytes: length.into(), last: time };
    if aggregates.insert(&*key, &first, u64::from(BPF_NOEXIST)).is_ok() {
        return true;
    }
    // It is there already, by this CPU or another.
    let value = aggregates.get_ptr_mut(&*key);
    if let Some(value) = value {
        add_to(value, length, time);
    }
    value.is_some()
}

/// Adds a drop to an aggregate.
#[inline(always)]
fn add_to(value: *mut AggregateValue, length: u32, time: u64) {
    // SAFETY: the element stays allocated while this program runs; the counts are only added
    // to atomically, and of the times any is good.
    unsafe {
        Word::at(&raw mut (*value).packets).add(1);
        Word::at(&raw mut (*value).bytes).add(u64::from(length));
        (&raw mut (*value).last).write_volatile(time);
    }
}
