//! How many events a second reach the event log: `cargo run --release -p bulkhead-events --example throughput DIRECTORY`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_abi::{AggregateKey, KIND_DROP, NO_RULE, Reason, from_ip};
use bulkhead_api::event::{Counted, Timestamp};
use bulkhead_api::record::{Clock, Digests};
use bulkhead_events::{Enricher, EventHub, EventLog, Facts, Keep, Origin, Pace, Packets};

const EVENTS: u32 = 300_000;

struct NoFacts;

impl Facts for NoFacts {
    fn host(&self) -> String {
        "host".to_owned()
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    fn files(&self, _: u32) -> Option<Digests> {
        None
    }
}

fn main() {
    let directory = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let log = EventLog::open(&directory, "node", Keep::ALL, Arc::new(NoFacts));
    let hub = EventHub::new("node", log, Vec::new()).expect("threads");
    let names = Enricher::unknown(Arc::default());
    let mut pace = Pace::default();
    let began = Instant::now();
    for number in 0..EVENTS {
        let key = AggregateKey {
            source: from_ip(IpAddr::from([100, 64, 0, 1])),
            destination: from_ip(IpAddr::from([100, 64, 0, 2])),
            interface: 1,
            rule: NO_RULE,
            generation: 1,
            port: number as u16,
            protocol: 17,
            reason: Reason::NoRule as u8,
            other_rule: NO_RULE,
            other_generation: 0,
            other_reason: 0,
            kind: KIND_DROP,
            reserved: [0; 2],
        };
        pace.wait(&hub, || false);
        let packets =
            Packets { count: 1, bytes: 60, source_port: Some(9), is_odd: false, is_audit: Some(false) };
        let origin = Origin::Ring(number.to_ne_bytes().repeat(20));
        let time = Timestamp::from_unix(number.into());
        hub.publish(time, names.kind(&key, packets, None), Counted::Events, origin);
    }
    assert!(hub.flush(Duration::from_secs(60)), "the event log stands still");
    let took = began.elapsed().as_secs_f64();
    let stats = hub.stats();
    println!(
        "{:.0} events a second, {} written, {} lost",
        f64::from(EVENTS) / took,
        stats.written,
        stats.unwritten
    );
}
