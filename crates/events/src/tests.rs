pub(crate) mod facts;
mod ring;

use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bulkhead_abi::{AggregateKey, Event, KIND_DROP, NO_RULE, Reason, from_ip};
use bulkhead_api::event::{self, EventStats, Kind, Timestamp};

use self::facts::{NoFacts, records_in};
use self::ring::FakeRing;
use crate::{
    Enricher, Entry, EventHub, EventLog, Generations, Keep, Left, Lost, Origin, Reader, Ring, Sink, account,
};

/// A drop of generation 1, told apart by its port.
fn drop_to(port: u16, generation: u32) -> Event {
    let address = |last: u8| from_ip(IpAddr::from([100, 64, 0, last]));
    let key = AggregateKey {
        source: address(1),
        destination: address(2),
        interface: 1,
        rule: NO_RULE,
        generation,
        port,
        protocol: 17,
        reason: Reason::NoRule as u8,
        other_rule: NO_RULE,
        other_generation: 0,
        other_reason: 0,
        kind: KIND_DROP,
        reserved: [0; 2],
    };
    Event { time: port.into(), key, length: 60, source_port: 9, detail: 0, flags: 0, one_in: 0 }
}

fn port(event: &event::Event) -> Option<u16> {
    if let Kind::Drop(drop) = &event.kind { drop.destination_port } else { None }
}

/// Names of generation 1; others are asked of `resolve`.
fn names(resolve: impl Fn(u32) -> Option<Enricher> + Send + 'static) -> Arc<Generations> {
    let names = Generations::new(Enricher::unknown(Arc::default()), resolve).unwrap();
    names.add(1, Arc::new(Enricher::unknown(Arc::default())));
    Arc::new(names)
}

type Held<T> = Arc<Mutex<T>>;

/// The whole of a second sink: it keeps ports, and writes nothing before it may.
struct Ports {
    ports: Held<Vec<u16>>,
    blocked: Option<Receiver<()>>,
    stats: Held<EventStats>,
}

impl Sink for Ports {
    fn name(&self) -> &'static str {
        "ports"
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        if let Some(blocked) = self.blocked.take() {
            // Ends when the other end is dropped.
            let _ = blocked.recv();
        }
        self.ports.lock().unwrap().extend(port(&entry.event));
        account::Step::of(entry).count(&mut self.stats.lock().unwrap(), true);
        Ok(())
    }

    fn lost(&mut self, lost: &Lost) {
        account::add(&mut self.stats.lock().unwrap(), lost);
    }
}

impl Ports {
    fn new(blocked: Option<Receiver<()>>) -> (Box<Self>, Held<Vec<u16>>, Held<EventStats>) {
        let sink = Self { ports: Arc::default(), blocked, stats: Arc::default() };
        let (ports, stats) = (sink.ports.clone(), sink.stats.clone());
        (Box::new(sink), ports, stats)
    }
}

fn run(ring: Ring, hub: &Arc<EventHub>, names: &Arc<Generations>) {
    let reader = Reader::new(ring, hub.clone(), names.clone(), Timestamp::from_unix);
    std::thread::spawn(move || reader.run());
}

#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_event_log_that_stands_still_costs_the_ring_and_other_sinks_nothing() {
    const QUEUE: usize = 1500;
    let (release, blocked): (Sender<()>, _) = channel();
    let (log, logged, stats) = Ports::new(Some(blocked));
    let (other, seen, _) = Ports::new(None);
    let hub = EventHub::with("node", log, vec![other], stats, Left::default(), QUEUE).unwrap();
    let hub = Arc::new(hub);
    let mut watching = hub.watch();
    let mut ring = FakeRing::new(1 << 20);
    run(ring.reader(), &hub, &names(|_| None));
    let (began, mut sent, mut refused) = (Instant::now(), 0_u16, 0);
    while began.elapsed() < Duration::from_secs(10) {
        // More than the log's queue and the ring together have room for.
        while u128::from(sent) < began.elapsed().as_millis() * 2 {
            refused += u64::from(!ring.push(&drop_to(sent, 1)));
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(4));
    }
    assert!(sent > 14_000 + QUEUE as u16, "no flood: {sent} events");
    assert_eq!(refused, 0, "the ring was full");
    // The log has got nothing, the other sink everything, and what is lost for the log is counted already.
    wait_for("the other sink has all", || seen.lock().unwrap().len() == usize::from(sent));
    assert!(seen.lock().unwrap().iter().copied().eq(0..sent), "in order");
    assert!(logged.lock().unwrap().is_empty());
    let waiting = (QUEUE - QUEUE / 64) as u64;
    let lost = u64::from(sent) - waiting;
    let now = hub.stats();
    assert_eq!((now.overflowed, now.unwritten, now.unwritten_drops, now.events), (lost, lost, lost, lost));
    assert_eq!(hub.sinks().next().unwrap().1.written, u64::from(sent));
    assert!(watching.try_recv().is_err(), "a watcher this slow is told how much it missed");
    // What an audit must not miss finds room, to this end.
    let restored = event::Control {
        action: event::Action::Restore,
        outcome: event::Outcome::Done,
        by: event::Actor::Agent,
        subject: None,
        detail: None,
        signers: Vec::new(),
        generation_before: 1,
        generation: 1,
        policy: None,
        inventory: None,
    };
    let (time, kind) = (Timestamp::from_unix(0), Kind::Control(Box::new(restored)));
    hub.publish(time, kind, event::Counted::Events, Origin::Agent);
    assert_eq!(hub.stats().overflowed, lost);
    // It goes on.
    drop(release);
    assert!(hub.flush(Duration::from_secs(30)));
    let sent_later = sent + 10;
    (sent..sent_later).for_each(|port| assert!(ring.push(&drop_to(port, 1))));
    wait_for("all is told of or counted", || {
        let stats = hub.stats();
        (stats.written, stats.events) == (waiting + 11, u64::from(sent_later))
    });
    assert_eq!(logged.lock().unwrap().len() as u64, waiting + 10);
    let stats = hub.stats();
    assert_eq!((stats.overflowed, stats.unwritten_drops), (lost, lost));
}

#[test]
fn an_agent_that_is_killed_with_records_in_the_ring_is_followed_by_one_that_tells_of_each_once() {
    let state = tempfile::tempdir().unwrap();
    let mut ring = FakeRing::new(1 << 16);
    let open = || {
        let log = EventLog::open(state.path(), "node", Keep::ALL, Arc::new(NoFacts));
        Arc::new(EventHub::new("node", log, Vec::new()).unwrap())
    };
    let records = || records_in(state.path()).len();
    let mut all = 0;
    for round in 1..=5_u16 {
        let hub = open();
        (0..7).for_each(|_| assert!(ring.push(&drop_to(all, 1))));
        (0..3_u16).for_each(|more| assert!(ring.push(&drop_to(all + 1 + more, 1))));
        let mut reader = Reader::new(ring.reader(), hub.clone(), names(|_| None), Timestamp::from_unix);
        // It has told of them, and nothing is given back.
        assert!(!reader.read());
        assert!(hub.flush(Duration::from_secs(10)));
        // The agent itself has told of something since, which moves no place in the ring.
        let time = Timestamp::from_unix(0);
        hub.publish(time, Kind::Missed(event::Missed { missed: 1 }), event::Counted::Events, Origin::Agent);
        assert!(hub.flush(Duration::from_secs(10)));
        drop((reader, hub));
        all += 10;
        assert_eq!(records(), usize::from(all + round), "round {round}");
    }
    let hub = open();
    assert_eq!((hub.stats().events, hub.stats().written), (50, 55));
    let reader = Reader::new(ring.reader(), hub.clone(), names(|_| None), Timestamp::from_unix);
    assert!(reader.drain(Duration::from_secs(10)));
    assert_eq!((records(), ring.used()), (55, 0), "nothing is left, and nothing is told of twice");
}

#[test]
fn events_wait_in_the_ring_for_names_that_are_being_made_and_not_for_ever() {
    let (release, blocked): (Sender<()>, Receiver<()>) = channel();
    let names = names(move |generation| {
        let _ = blocked.recv();
        (generation == 7).then(|| Enricher::unknown(Arc::default()))
    });
    let (log, logged, stats) = Ports::new(None);
    let hub = Arc::new(EventHub::with("node", log, Vec::new(), stats, Left::default(), 1000).unwrap());
    let mut ring = FakeRing::new(1 << 16);
    run(ring.reader(), &hub, &names);
    assert!(ring.push(&drop_to(1, 1)) && ring.push(&drop_to(2, 7)) && ring.push(&drop_to(3, 1)));
    wait_for("the first is told of", || !logged.lock().unwrap().is_empty());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(*logged.lock().unwrap(), [1], "the second waits");
    release.send(()).unwrap();
    wait_for("all are told of", || *logged.lock().unwrap() == [1, 2, 3]);
    // Names that do not come, and a ring that fills up.
    (0..700).for_each(|port| assert!(ring.push(&drop_to(port, 8)), "{port}"));
    wait_for("what fills the ring is told of", || logged.lock().unwrap().len() > 50);
    (700..800).for_each(|port| {
        wait_for("there is room", || ring.push(&drop_to(port, 8)));
    });
    // The others once they have waited long enough.
    wait_for("all are told of", || logged.lock().unwrap().len() == 803);
}
