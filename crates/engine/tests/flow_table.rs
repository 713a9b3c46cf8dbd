//! The table of flows against a plain map, who makes room for whom, and writers on many CPUs.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkhead_abi::{FLOW_AUDIT, FLOW_ESTABLISHED, FlowBucket, FlowKey, FlowState, FlowValue};
use bulkhead_engine::flow_table::{Buckets, Search, Stored, attempt, displaced, get, places, put};
use proptest::prelude::*;

/// A table in ordinary memory. Flows that were last seen before `now` are over.
struct Table {
    buckets: Vec<FlowBucket>,
    now: u64,
    seed: u64,
}

impl Table {
    fn new(buckets: usize) -> Self {
        Self {
            buckets: (0..buckets).map(|_| FlowBucket::default()).collect(),
            now: 0,
            seed: 0x1234_5678_9abc_def1,
        }
    }

    /// The table, and what one CPU's search is kept in.
    fn on(&self) -> Cpu<'_> {
        Cpu { table: self, search: Search::default() }
    }

    fn flows(&self) -> Vec<(FlowKey, FlowValue)> {
        self.buckets.iter().flat_map(|bucket| &bucket.slots).filter_map(|slot| slot.flow()).collect()
    }

    fn live_of(&self, end: u32) -> usize {
        self.flows().iter().filter(|(key, flow)| key.initiator[3] == end && is_established(flow)).count()
    }
}

struct Cpu<'a> {
    table: &'a Table,
    search: Search,
}

impl Buckets for Cpu<'_> {
    fn bucket(&self, index: u32) -> Option<&FlowBucket> {
        self.table.buckets.get(index as usize)
    }
    fn mask(&self) -> u32 {
        self.table.buckets.len() as u32 - 1
    }
    fn seed(&self) -> u64 {
        self.table.seed
    }
    fn is_expired(&self, _: u8, last_seen: u64) -> bool {
        last_seen < self.table.now
    }
    fn search(&self) -> Option<&Search> {
        Some(&self.search)
    }
    fn displaced(&self, key: &FlowKey) -> u32 {
        displaced(self, key)
    }
    fn places(&self, buckets: [u32; 2], end: [u64; 2]) -> u32 {
        places(self, buckets, end)
    }
}

impl Cpu<'_> {
    fn find(&self, key: &FlowKey) -> Option<FlowValue> {
        let mut flow = FlowValue::NONE;
        get(self, key, &mut flow, |_| None).then_some(flow)
    }

    fn put(&self, key: &FlowKey, flow: FlowValue) -> Stored {
        put(|| attempt(self, key, Some(&flow)))
    }

    fn remove(&self, key: &FlowKey) {
        put(|| attempt(self, key, None));
    }
}

const fn is_established(flow: &FlowValue) -> bool {
    flow.flags & FLOW_ESTABLISHED != 0
}

/// A flow that `end` began, inward.
const fn key(end: u32, number: u32) -> FlowKey {
    FlowKey {
        initiator: [0, 0, 0xffff, end],
        responder: [0, 0, 0xffff, 1],
        initiator_port: number as u16,
        responder_port: (number >> 16) as u16,
        zone: 1,
        protocol: 6,
        direction: 0,
    }
}

const fn pending(last_seen: u64) -> FlowValue {
    FlowValue { last_seen, generation: 1, state: FlowState::TcpSyn as u8, ..FlowValue::NONE }
}

const fn live(last_seen: u64) -> FlowValue {
    FlowValue { state: FlowState::TcpEstablished as u8, flags: FLOW_ESTABLISHED, ..pending(last_seen) }
}

proptest! {
    #[test]
    fn a_table_with_room_is_a_map(
        steps in prop::collection::vec((0u32..40, 0u32..12, prop::option::weighted(0.7, any::<(u64, u32, u8)>())), 1..600)
    ) {
        let table = Table::new(256);
        let cpu = table.on();
        let mut model = HashMap::new();
        for (end, number, step) in steps {
            let key = key(end, number);
            match step {
                Some((last_seen, rule, bits)) => {
                    let flow = FlowValue { last_seen, rule, generation: rule ^ 7, state: bits & 7, flags: bits & 15, begun: [0; 6] };
                    prop_assert_eq!(cpu.put(&key, flow), Stored::Done);
                    model.insert(key, flow);
                }
                None => {
                    cpu.remove(&key);
                    model.remove(&key);
                }
            }
            prop_assert_eq!(cpu.find(&key), model.get(&key).copied());
        }
        let mut flows: HashMap<_, _> = HashMap::new();
        for (key, flow) in table.flows() {
            prop_assert!(flows.insert(key, flow).is_none(), "a flow lies in two slots");
        }
        for key in model.keys() {
            prop_assert_eq!(cpu.find(key), model.get(key).copied());
        }
        prop_assert_eq!(flows, model);
    }

    #[test]
    fn what_lies_in_a_full_table_is_found_and_nothing_else(
        steps in prop::collection::vec((0u32..6, 0u32..64, any::<bool>(), any::<bool>()), 1..400),
        buckets in prop::sample::select(vec![2, 4, 8, 16])
    ) {
        // Everything is pushed out by something all the time.
        let table = Table::new(buckets);
        let cpu = table.on();
        for (now, (end, number, is_live, stays)) in (1..).zip(steps) {
            let key = key(end, number);
            if stays {
                cpu.put(&key, if is_live { live(now) } else { pending(now) });
            } else {
                cpu.remove(&key);
                prop_assert_eq!(cpu.find(&key), None);
            }
            for (key, flow) in table.flows() {
                prop_assert_eq!(cpu.find(&key), Some(flow));
            }
        }
    }
}

/// Whatever the seed, and however alike the keys are, half of the slots hold as many flows, but for
/// about one in a million.
#[test]
fn a_half_full_table_has_a_place_for_each() {
    let mut refused = 0;
    let seeds = (1..=40u64).map(|seed| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for seed in seeds {
        let table = Table { seed, ..Table::new(4096) };
        let cpu = table.on();
        for number in 0..16_384 {
            // Addresses next to each other, as they lie in memory, with one port; then ports of one.
            let end = (0x6440_0000_u32 + number).to_be();
            let of = if seed % 4 == 1 { key(7, number) } else { key(end, 1) };
            refused += usize::from(cpu.put(&of, live(5)) != Stored::Done);
        }
    }
    assert!(refused <= 3, "{refused} of 655,360");
}

#[test]
fn openings_push_out_openings_and_no_conversation() {
    let table = Table::new(64);
    let cpu = table.on();
    let idle: Vec<FlowKey> = (0..100).map(|number| key(9, number)).collect();
    idle.iter().for_each(|key| assert_eq!(cpu.put(key, live(5)), Stored::Done));
    let mut evicted = 0;
    for number in 0..100_000 {
        let stored = cpu.put(&key(7, number), pending(u64::from(number) + 10));
        assert_ne!(stored, Stored::Refused);
        evicted += usize::from(stored == Stored::Evicted);
    }
    assert!(evicted > 90_000, "{evicted}");
    assert!(idle.iter().all(|key| cpu.find(key) == Some(live(5))));
}

#[test]
fn completed_conversations_push_out_their_own_ends_first() {
    let table = Table::new(256);
    let cpu = table.on();
    // A sixteenth of the slots: nowhere are more than half of a flow's places theirs.
    let idle: Vec<FlowKey> = (0..128).map(|number| key(9, number)).collect();
    idle.iter().for_each(|key| assert_eq!(cpu.put(key, live(5)), Stored::Done));
    for number in 0..50_000 {
        // Seen later than every idle one, which an order by time alone would give up first.
        assert_ne!(cpu.put(&key(7, number), live(u64::from(number) + 10)), Stored::Refused);
    }
    assert_eq!(table.live_of(9), 128);
    // Another end's new conversation finds room at the crowd's expense.
    for number in 0..500 {
        assert_ne!(cpu.put(&key(8, number), live(100_000)), Stored::Refused);
    }
    assert_eq!(table.live_of(9), 128);
    assert!(table.live_of(8) > 450, "{}", table.live_of(8));
}

#[test]
fn an_identity_with_an_address_of_each_family_leaves_room_for_others() {
    for addresses in [2, 3] {
        let table = Table::new(256);
        let cpu = table.on();
        // An eighth of the slots: others' conversations, which are idle.
        let idle: Vec<FlowKey> = (0..256).map(|number| key(1000 + number, number)).collect();
        idle.iter().for_each(|key| assert_eq!(cpu.put(key, live(5)), Stored::Done));
        for number in 0..20_000 {
            let key = key(7 + number % addresses, number);
            if cpu.put(&key, pending(u64::from(number) + 10)) != Stored::Refused {
                cpu.put(&key, live(u64::from(number) + 10));
            }
        }
        assert_eq!(table.flows().len(), 256 * 8, "there is no place left");
        let strangers = (0..200).map(|number| key(5000 + number, number));
        let refused = strangers.filter(|key| cpu.put(key, live(100_000)) == Stored::Refused).count();
        assert!(refused < 10, "{refused} of 200 with {addresses}");
        assert!(idle.iter().all(|key| cpu.find(key) == Some(live(5))), "who is idle keeps his place");
    }
}

/// One end that fills the table with conversations gives up its own, once it has more than half of
/// a flow's places, before others' openings; and what audit mode let pass is given up like these.
#[test]
fn a_crowd_gives_up_its_own_before_others_openings() {
    let table = Table::new(256);
    let cpu = table.on();
    let opened: Vec<FlowKey> = (0..200).map(|number| key(1000 + number, number)).collect();
    opened.iter().for_each(|key| assert_eq!(cpu.put(key, pending(5)), Stored::Done));
    for number in 0..20_000 {
        cpu.put(&key(7, number), live(u64::from(number) + 10));
    }
    let left = opened.iter().filter(|key| cpu.find(key).is_some()).count();
    assert!(left > 190, "{left} of 200");

    let table = Table::new(2);
    let cpu = table.on();
    let passed = FlowValue { flags: FLOW_ESTABLISHED | FLOW_AUDIT, ..live(5) };
    (0..64).for_each(|number| _ = cpu.put(&key(number, 1), passed));
    assert_eq!(cpu.put(&key(1000, 1), pending(9)), Stored::Evicted);
}

#[test]
fn a_table_full_of_many_ends_conversations_refuses_a_new_end() {
    let table = Table::new(2);
    let cpu = table.on();
    let mut ends = 0;
    while table.flows().len() < 16 {
        ends += 1;
        cpu.put(&key(ends, 1), live(5));
    }
    let before = table.flows();
    assert_eq!(cpu.put(&key(1000, 1), pending(9)), Stored::Refused);
    assert_eq!(cpu.find(&key(1000, 1)), None);
    assert_eq!(table.flows(), before);
    // An end may give up its own, and what has ended or expired is nobody's.
    assert_eq!(cpu.put(&key(1, 2), pending(9)), Stored::Evicted);
    assert_eq!((cpu.find(&key(1, 1)), cpu.find(&key(1, 2))), (None, Some(pending(9))));
    let ending = FlowValue { state: FlowState::TcpClosing as u8, ..live(5) };
    cpu.put(&key(2, 1), ending);
    cpu.put(&key(1, 2), live(9));
    assert_eq!(cpu.put(&key(1000, 1), live(9)), Stored::Evicted);
    assert_eq!(cpu.find(&key(2, 1)), None);
    let later = Table { now: 6, ..table };
    let cpu = later.on();
    assert_eq!(cpu.put(&key(1001, 1), live(9)), Stored::Done);
}

#[test]
fn writers_and_readers_on_many_cpus_see_whole_flows_of_their_own_key() {
    let table = Table::new(4);
    let stop = AtomicBool::new(false);
    // What is stored under a key says which key it is.
    let of = |key: &FlowKey, version: u64| {
        let mark = key.initiator[3] << 16 | u32::from(key.initiator_port);
        FlowValue { last_seen: version << 32 | u64::from(mark), generation: mark, rule: mark, ..live(0) }
    };
    std::thread::scope(|scope| {
        for cpu in 0..4u64 {
            let (table, stop) = (&table, &stop);
            scope.spawn(move || {
                let (on, mut random) = (table.on(), 0x9e37_79b9_u64 + cpu);
                while !stop.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let key = key((random >> 40) as u32 % 5, (random >> 50) as u32 % 12);
                    match random >> 60 {
                        0..4 => _ = on.put(&key, of(&key, random >> 33)),
                        4 => on.remove(&key),
                        _ => {
                            if let Some(flow) = on.find(&key) {
                                assert_eq!(flow, of(&key, flow.last_seen >> 32), "{key:?}");
                            }
                        }
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(700));
        stop.store(true, Ordering::Relaxed);
    });
    // Nothing stays claimed, and whatever lies there is found or lies there twice.
    let cpu = table.on();
    for (key, flow) in table.flows() {
        assert_eq!(flow, of(&key, flow.last_seen >> 32));
        assert!(cpu.find(&key).is_some(), "{key:?}");
        cpu.remove(&key);
    }
    assert_eq!(table.flows(), []);
    // Every slot can be had, by whoever may have it.
    (0..1000).for_each(|number| _ = cpu.put(&key(3, number), pending(1)));
    assert_eq!(table.flows().len(), 32, "a slot is lost");
}
