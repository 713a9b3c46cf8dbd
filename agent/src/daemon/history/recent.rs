//! Drops and differences of the last minute, in memory.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_api::event::{Drop, Event, Kind, WouldDiffer};
use bulkhead_engine::Reason;
use bulkhead_events::{Entry, Sink};
use bulkhead_history::{End, Seen, Verdict};

/// Kinds of drops that are told apart in a minute: some 4 MB. Beyond that who it was is not kept.
const KINDS: usize = 16_384;

/// What was dropped, or is decided otherwise by the staged policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dropped {
    /// The generation that decided, and the number of its rule in the policy.
    pub rule: Option<(u32, u32)>,
    /// Who sent it.
    pub source: End,
    /// To whom.
    pub destination: End,
    /// The destination's port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// What became of it.
    pub verdict: Verdict,
}

/// Collects them.
#[derive(Default)]
pub struct Recent {
    dropped: Mutex<HashMap<Dropped, Seen>>,
    /// The file has had enough of today's drops.
    is_full: AtomicBool,
}

impl Recent {
    fn note(&self, event: &Event) {
        let (drop, verdict) = match &event.kind {
            Kind::Drop(drop) if drop.audit => (&**drop, Verdict::WouldDrop),
            Kind::Drop(drop) => (&**drop, Verdict::Dropped),
            // What audit mode lets pass the enforced policy would drop, too.
            Kind::WouldDiffer(differs) if differs.enforced.reason.is(Reason::AuditReply) => return,
            Kind::WouldDiffer(differs) => {
                let WouldDiffer { staged, enforced } = &**differs;
                (staged, if enforced.passed { Verdict::StagedDrops } else { Verdict::StagedPasses })
            }
            _ => return,
        };
        let is_drop = matches!(verdict, Verdict::Dropped | Verdict::WouldDrop);
        if is_drop && !drop.reason.is_of_rules() {
            return;
        }
        let mut what = dropped(drop, verdict);
        if let Kind::WouldDiffer(differs) = &event.kind
            && differs.enforced.reason.is(Reason::Reply)
        {
            // A reply is of the conversation that it answers.
            mem::swap(&mut what.source, &mut what.destination);
            what.port = drop.source_port.unwrap_or(0);
        }
        self.add(what, drop.count, event.time.unix() / 1_000_000_000);
    }

    fn add(&self, what: Dropped, count: u64, time: u64) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !dropped.contains_key(&what);
        let what = if is_new && (dropped.len() >= KINDS || self.is_full.load(Ordering::Relaxed)) {
            Dropped { source: End::UNKNOWN, destination: End::UNKNOWN, port: 0, protocol: 0, ..what }
        } else {
            what
        };
        let seen = dropped.entry(what).or_default();
        seen.count = seen.count.saturating_add(count);
        seen.last = seen.last.max(time);
    }

    /// Takes them out.
    pub fn take(&self) -> HashMap<Dropped, Seen> {
        mem::take(&mut *self.dropped.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether who is dropped is not to be told apart any more.
    pub fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }
}

fn dropped(drop: &Drop, verdict: Verdict) -> Dropped {
    // An address behind a node is not the node.
    let end = |end: Option<&bulkhead_api::event::End>| match end {
        Some(end) => {
            End { name: end.name.clone().filter(|_| end.route.is_none()), address: Some(end.address) }
        }
        None => End::UNKNOWN,
    };
    Dropped {
        rule: drop.rule.as_ref().map(|rule| (drop.generation, rule.number)),
        source: end(drop.source.as_ref()),
        destination: end(drop.destination.as_ref()),
        port: drop.destination_port.unwrap_or(0),
        protocol: drop.protocol.map_or(0, |protocol| protocol.0),
        verdict,
    }
}

/// Has events noted.
pub struct HistorySink(pub Arc<Recent>);

impl Sink for HistorySink {
    fn name(&self) -> &'static str {
        "history"
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        self.0.note(&entry.event);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bulkhead_api::event::Event;
    use bulkhead_history::Verdict;

    use super::{Dropped, End, KINDS, Recent};

    fn event(source: Ipv4Addr, reason: &str, audit: bool) -> Event {
        let line = format!(
            r#"{{"time":"2026-11-28T08:53:14.9Z","node":"oms-1","kind":"drop","direction":"ingress",
            "source":{{"address":"{source}"}},"destination":{{"address":"100.64.0.2","name":"oms-1"}},
            "destination_port":22,"protocol":"tcp","reason":"{reason}","interface":"wg0","count":3,"bytes":60,
            "generation":3,"audit":{audit}}}"#
        );
        Event::read(line.as_bytes()).unwrap()
    }

    #[test]
    fn replies_that_a_staged_policy_would_drop_are_of_their_conversation() {
        let recent = Recent::default();
        let tell = |source: &str, ports: [u16; 2], destination: &str, reason: &str, passed_by: &str| {
            let [from, to] = ports;
            let line = format!(
                r#"{{"time":"2026-11-28T08:53:14.9Z","node":"oms-1","kind":"would_differ","direction":"ingress",
                "source":{{"address":"{source}"}},"source_port":{from},"destination":{{"address":"{destination}"}},
                "destination_port":{to},"protocol":"tcp","reason":"{reason}","interface":"wg0","count":2,"bytes":60,
                "generation":4,"audit":false,"enforced":{{"reason":"{passed_by}","passed":true}}}}"#
            );
            recent.note(&Event::read(line.as_bytes()).unwrap());
        };
        tell("100.64.0.1", [40_000, 8080], "100.64.0.2", "no_rule", "rule");
        tell("100.64.0.2", [8080, 40_000], "100.64.0.1", "flow_revoked", "reply");
        tell("100.64.0.2", [8080, 40_001], "100.64.0.3", "flow_revoked", "audit_reply");
        let taken: Vec<_> = recent.take().into_iter().collect();
        let [(what, seen)] = &*taken else { panic!("{taken:?}") };
        assert_eq!((what.verdict, what.port, seen.count), (Verdict::StagedDrops, 8080, 4));
        assert_eq!(what.source.address, Some([100, 64, 0, 1].into()));
    }

    #[test]
    fn drops_by_the_policy_are_summed_and_a_flood_is_of_nobody_known() {
        let recent = Recent::default();
        let one = Ipv4Addr::new(100, 64, 0, 9);
        for (reason, audit) in
            [("no_rule", false), ("no_rule", false), ("no_rule", true), ("icmp_type", false)]
        {
            recent.note(&event(one, reason, audit));
        }
        let taken = recent.take();
        let mut counts: Vec<_> =
            taken.iter().map(|(what, seen)| (what.verdict, seen.count, what.port)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(Verdict::Dropped, 6, 22), (Verdict::WouldDrop, 3, 22)]);
        (0..KINDS as u32 + 500).for_each(|n| recent.note(&event((0xc633_0000 + n).into(), "no_rule", false)));
        // Who was known before goes on to be told apart.
        recent.note(&event(Ipv4Addr::from(0xc633_0000_u32), "no_rule", false));
        let taken = recent.take();
        assert_eq!(taken.len(), KINDS + 1);
        let of_nobody = |what: &&Dropped| what.source == End::UNKNOWN && what.port == 0;
        assert_eq!(taken.keys().find(of_nobody).map(|what| taken[what].count), Some(1500));
        assert_eq!(taken.values().filter(|seen| seen.count == 6).count(), 1);
    }
}
