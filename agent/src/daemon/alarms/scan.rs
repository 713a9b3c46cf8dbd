//! One source that is denied at many destinations and ports.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use bulkhead_api::event::{Direction, Drop, End};

use super::table::Table;
use super::{Cause, Found};
use crate::config::Scan;

/// Sources that are told apart: with 256 places for each, some 4 MB.
const SOURCES: usize = 1024;

/// Tells scans from single denials.
pub struct Scans {
    settings: Scan,
    sources: Table<Key, Source>,
    /// Of keys that nobody outside knows: what is denied at equal hashes is one.
    hashes: RandomState,
}

/// Whether it is known who the address stands for is part of it: beneath the overlay anybody writes a node's address,
/// and that counts against nobody who is named.
type Key = (IpAddr, Direction, bool);

fn key(end: &End, direction: Direction) -> Key {
    (end.address, direction, end.name.is_some())
}

struct Source {
    end: End,
    /// When its window began, s.
    began: u64,
    /// Hashes of destinations and ports in this window, no more than make a scan.
    hit: HashSet<u32>,
    /// Packets in this window.
    packets: u64,
    /// The kernel told of too many kinds to tell each.
    is_many: bool,
    is_raised: bool,
}

impl Source {
    fn new(end: &End, now: u64) -> Self {
        let (hit, is_many, is_raised) = (HashSet::new(), false, false);
        Self { end: end.clone(), began: now, hit, packets: 0, is_many, is_raised }
    }

    fn weight(&self) -> u64 {
        // Addresses that nobody has cost nothing: a flood of them does not push nodes out.
        let known = if self.end.name.is_some() { 1 << 32 } else { 0 };
        if self.is_raised { u64::MAX } else { known + self.hit.len() as u64 }
    }

    fn is_scan(&self, settings: &Scan) -> bool {
        self.is_many || self.hit.len() >= settings.targets as usize
    }

    fn begin(&mut self, now: u64) {
        (self.began, self.packets, self.is_many) = (now, 0, false);
        self.hit.clear();
    }
}

impl Scans {
    /// With these bounds.
    pub fn new(settings: Scan) -> Self {
        Self { settings, sources: Table::new(SOURCES), hashes: RandomState::new() }
    }

    /// Takes a denial at a time (s); what it makes of it.
    pub fn note(&mut self, drop: &Drop, now: u64) -> Option<Found> {
        let end = drop.source.as_ref()?;
        let settings = self.settings;
        let key = key(end, drop.direction);
        let source = self.sources.entry(&key, Source::weight, || Source::new(end, now));
        if !source.is_raised && now.saturating_sub(source.began) >= settings.seconds {
            source.begin(now);
        }
        source.packets = source.packets.saturating_add(drop.count);
        source.is_many |= drop.many && drop.count >= settings.targets;
        if source.hit.len() < settings.targets as usize
            && let Some(destination) = &drop.destination
        {
            let target = (destination.address, drop.destination_port, drop.protocol);
            source.hit.insert(self.hashes.hash_one(target) as u32);
        }
        if source.is_raised || !source.is_scan(&settings) {
            return None;
        }
        source.is_raised = true;
        Some(found(source, drop.direction, &settings))
    }

    /// What has ended by a time (s): a whole window in which it was none.
    pub fn ended(&mut self, now: u64) -> Vec<Found> {
        let settings = self.settings;
        let mut ended = Vec::new();
        for ((_, direction, _), source) in self.sources.iter_mut() {
            if !source.is_raised || now.saturating_sub(source.began) < settings.seconds {
                continue;
            }
            if !source.is_scan(&settings) {
                source.is_raised = false;
                ended.push(found(source, *direction, &settings));
            }
            source.begin(now);
        }
        ended
    }

    /// Takes up one that an earlier agent raised.
    pub fn take_up(&mut self, end: &End, direction: Direction, now: u64) {
        let source = || Source::new(end, now);
        self.sources.entry(&key(end, direction), Source::weight, source).is_raised = true;
    }
}

fn found(source: &Source, direction: Direction, settings: &Scan) -> Found {
    let Source { end, hit, packets, is_many, .. } = source;
    let name = end.name.as_ref().filter(|_| end.route.is_none());
    let who = name.map_or_else(|| end.address.to_string(), |name| format!("{name} ({})", end.address));
    let seconds = settings.seconds;
    let targets = match (is_many, hit.len()) {
        (true, _) => "more destinations and ports than are told apart".to_owned(),
        (false, count) => format!("{count} destinations and ports or more"),
    };
    let way = if direction == Direction::Egress { " on its way out" } else { "" };
    Found {
        cause: Cause::Scan { source: end.clone(), direction },
        count: if *is_many { *packets } else { hit.len() as u64 },
        usual: None,
        seconds: Some(seconds),
        detail: format!("{who} was denied at {targets} within {seconds} s{way}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::drop;
    use super::{SOURCES, Scan, Scans};

    const SETTINGS: Scan = Scan { targets: 20, seconds: 60 };

    #[test]
    fn a_scan_is_told_once_and_ends_once() {
        let mut scans = Scans::new(SETTINGS);
        let raised: Vec<_> = (0..500).filter_map(|port| scans.note(&drop("10.0.0.1", port, 1), 5)).collect();
        assert_eq!(raised.len(), 1);
        assert!(raised[0].detail.contains("10.0.0.1 was denied at 20 destinations"), "{}", raised[0].detail);
        // It goes on in the next window, and in the one after it is quiet.
        assert!(scans.ended(64).is_empty() && scans.ended(65).is_empty());
        (0..30).for_each(|port| assert!(scans.note(&drop("10.0.0.1", port, 1), 70).is_none()));
        assert!(scans.ended(125).is_empty());
        assert_eq!(scans.ended(185).len(), 1);
        assert!(scans.ended(500).is_empty());
        // And again.
        assert_eq!((0..30).filter_map(|port| scans.note(&drop("10.0.0.1", port, 1), 600)).count(), 1);
    }

    #[test]
    fn a_scan_with_a_nodes_address_beneath_the_overlay_is_not_that_nodes() {
        let mut scans = Scans::new(SETTINGS);
        let mut own = drop("100.64.0.2", 22, 1);
        own.source.as_mut().unwrap().name = Some("blameless".to_owned());
        assert!(scans.note(&own, 5).is_none(), "one denial of its own");
        let forged: Vec<_> =
            (0..500).filter_map(|port| scans.note(&drop("100.64.0.2", port, 1), 5)).collect();
        assert_eq!(forged.len(), 1);
        assert!(!forged[0].detail.contains("blameless"), "{}", forged[0].detail);
    }

    #[test]
    fn many_packets_to_few_ports_and_ports_over_a_long_time_are_no_scan() {
        let mut scans = Scans::new(SETTINGS);
        for time in 0..10_000 {
            assert!(scans.note(&drop("10.0.0.1", (time % 5) as u16, 1000), time).is_none());
            // Another port every four seconds: 15 a minute.
            assert!(scans.note(&drop("10.0.0.2", (time / 4) as u16, 1), time).is_none());
        }
    }

    #[test]
    fn too_many_kinds_to_tell_each_are_a_scan() {
        let mut scans = Scans::new(SETTINGS);
        let mut many = drop("10.0.0.1", 1, 1000);
        (many.many, many.destination, many.destination_port) = (true, None, None);
        assert!(scans.note(&many, 5).unwrap().detail.contains("more destinations and ports"));
    }

    /// A scanner among rounds of senders that come once each; how often it is told of.
    fn among(name: Option<&str>, tries: u16, senders: u32) -> usize {
        let mut scans = Scans::new(SETTINGS);
        let mut found = Vec::new();
        for round in 0..40_u16 {
            for port in 0..tries {
                let mut denied = drop("10.0.0.1", round * tries + port, 1);
                denied.source.as_mut().unwrap().name = name.map(str::to_owned);
                found.extend(scans.note(&denied, 5));
            }
            for sender in 0..senders {
                let address =
                    std::net::Ipv4Addr::from_bits(0x0b00_0000 + u32::from(round) * senders + sender);
                found.extend(scans.note(&drop(&address.to_string(), 22, 1), 5));
            }
        }
        assert!(scans.sources.len() <= SOURCES);
        found.len()
    }

    #[test]
    fn a_flood_of_senders_hides_no_node_and_takes_no_memory() {
        assert_eq!(among(Some("node"), 1, 2000), 1, "a node among 80,000 addresses that nobody has");
        assert_eq!(among(None, 2, 100), 1, "one that nobody knows");
    }
}
