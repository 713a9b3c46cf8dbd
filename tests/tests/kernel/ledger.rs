//! What counters, events and aggregates must hold after a sequence of decided packets.

use std::collections::HashMap;

use bulkhead_abi::{AggregateKey, Counter, DIRECTIONS, Direction, EVENT_AUDIT, Event, REASONS};
use bulkhead_engine::{Action, Metadata, Reason};

use super::{GENERATION, INTERFACE, Kernel};

/// An event without its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub key: AggregateKey,
    pub length: u32,
    pub source_port: u16,
    pub detail: u8,
    pub flags: u8,
}

impl From<Event> for Told {
    fn from(event: Event) -> Self {
        let Event { time: _, key, length, source_port, detail, flags, one_in: _ } = event;
        Self { key, length, source_port, detail, flags }
    }
}

/// What is due.
pub struct Ledger {
    reasons: Vec<Counter>,
    rules: Vec<Counter>,
    told: Vec<Told>,
    aggregates: HashMap<AggregateKey, Counter>,
    drops: u64,
    events: u64,
    flags: u8,
    is_reported: bool,
}

impl Ledger {
    /// Without reports every drop is one that nothing else tells of.
    pub fn new(rules: u32, audit: bool, is_reported: bool) -> Self {
        Self {
            reasons: vec![Counter::default(); (DIRECTIONS * REASONS) as usize],
            rules: vec![Counter::default(); rules as usize],
            told: Vec::new(),
            aggregates: HashMap::new(),
            drops: 0,
            events: 0,
            flags: if audit { EVENT_AUDIT } else { 0 },
            is_reported,
        }
    }

    /// Enters a decided packet.
    pub fn enter(&mut self, meta: &Metadata, direction: Direction) {
        let Metadata { headers, outcome, .. } = meta;
        // What a rule decides is counted for it, and passes for nothing else.
        if matches!(outcome.reason, Reason::Rule | Reason::DenyRule | Reason::VenueDefaultDeny) {
            add(&mut self.rules[outcome.rule as usize], headers.length);
        }
        if outcome.reason != Reason::Rule {
            let index = (direction.index() * REASONS) as usize + outcome.reason as usize;
            add(&mut self.reasons[index], headers.length);
        }
        if outcome.reason.action() == Action::Pass {
            return;
        }
        self.drops += 1;
        if !self.is_reported {
            return;
        }
        let key: AggregateKey = meta.drop_key(direction, INTERFACE, GENERATION);
        match self.aggregates.get_mut(&key) {
            Some(aggregate) => add(aggregate, headers.length),
            None => {
                self.aggregates.insert(key, Counter::default());
                self.told.push(Told {
                    key,
                    length: headers.length,
                    source_port: headers.source_port,
                    detail: headers.detail,
                    flags: self.flags,
                });
            }
        }
    }

    /// Compares the ring's events with those due since the last time.
    pub fn check_events(&mut self, kernel: &mut Kernel) {
        let told: Vec<Told> = kernel.events().into_iter().map(Told::from).collect();
        assert_eq!(told, self.told, "events");
        self.events += told.len() as u64;
        self.told.clear();
    }

    /// Compares everything, and that no drop is told twice or not at all.
    pub fn check(&mut self, kernel: &mut Kernel) {
        self.check_events(kernel);
        for (index, (found, due)) in kernel.reasons().iter().zip(&self.reasons).enumerate() {
            assert_eq!(found, due, "reason {:?}", Reason::from_number((index as u32 % REASONS) as u8));
        }
        assert_eq!(kernel.rules(), self.rules, "rules");
        let aggregates = kernel.aggregates();
        assert_eq!(aggregates.len(), self.aggregates.len());
        for (key, value) in &aggregates {
            let found = Counter { packets: value.packets, bytes: value.bytes };
            assert_eq!(Some(&found), self.aggregates.get(key), "{key:?}");
        }
        let aggregated: u64 = aggregates.iter().map(|(_, value)| value.packets).sum();
        assert_eq!(self.drops, self.events + aggregated + kernel.lost());
    }
}

fn add(counter: &mut Counter, bytes: u32) {
    counter.packets += 1;
    counter.bytes += u64::from(bytes);
}
