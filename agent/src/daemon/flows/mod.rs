//! The conversations of this host, from the table of flows: one look at each of its places, a part at a time, so
//! that whoever reads slowly costs no thread and no memory.

mod filter;
mod known;

use std::net::IpAddr;

use anyhow::Context as _;
use bulkhead_abi::{Direction as Towards, FLOW_AUDIT, FLOW_ESTABLISHED, FlowKey, FlowValue, NO_RULE, to_ip};
use bulkhead_api::event::{Direction, Protocol};
use bulkhead_api::flow::{Flow, LIMIT, Line, Query, State, Total};
use bulkhead_dataplane::{FlowTable, Pins, STATE_MAPS, flow_clock};

use self::filter::Filter;
pub use self::known::Known;

/// Buckets that one part looks at, and bytes from which on it looks at no more.
const BUCKETS: usize = 4096;
const BYTES: usize = 32 << 10;

/// A list that is being made. Each place of the table is looked at once: a flow that moves meanwhile may be listed
/// twice or not at all, and one that begins meanwhile may be missing.
pub struct Listing {
    table: Option<FlowTable>,
    known: Known,
    filter: Filter,
    limit: u64,
    next: usize,
    total: Total,
    is_over: bool,
}

impl Listing {
    /// Begins one.
    ///
    /// # Errors
    /// A [`Usage`](crate::exit::Usage) if the query names what is not known; else the table cannot be opened.
    pub fn begin(pins: &Pins, known: Known, query: &Query) -> anyhow::Result<Self> {
        let filter = Filter::new(query, &known)?;
        // None while there are none, or they are just being made.
        let is_there = STATE_MAPS.iter().all(|map| pins.state(map).exists());
        let table = is_there.then(|| FlowTable::open(&pins.state("FLOWS"))).transpose()?;
        let limit = match query.limit.unwrap_or(LIMIT) {
            0 => u64::MAX,
            limit => limit,
        };
        Ok(Self { table, known, filter, limit, next: 0, total: Total::default(), is_over: false })
    }

    /// The next lines, none at all where a part of the table has none; nothing once the list is over.
    ///
    /// # Errors
    /// If a line cannot be written, which does not happen.
    pub fn part(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        if self.is_over {
            return Ok(None);
        }
        let (mut lines, now) = (Vec::new(), flow_clock());
        let buckets = self.table.as_ref().map_or(0, FlowTable::buckets);
        let end = buckets.min(self.next + BUCKETS);
        while self.next < end && lines.len() < BYTES {
            let found: Vec<_> = self.table.iter().flat_map(|table| table.bucket(self.next)).collect();
            self.next += 1;
            for (key, value) in found {
                if !self.filter.is_meant(&key, &value) || self.known.is_over(&value, now) {
                    continue;
                }
                self.total.matched += 1;
                if self.total.listed < self.limit {
                    self.total.listed += 1;
                    write(&mut lines, &Line::Flow(Box::new(self.flow(&key, &value, now))))?;
                }
            }
        }
        if self.next >= buckets {
            self.is_over = true;
            write(&mut lines, &Line::End(self.total))?;
        }
        Ok(Some(lines))
    }

    fn flow(&self, key: &FlowKey, value: &FlowValue, now: u64) -> Flow {
        let (local, peer) = sides(key);
        let protocol = Protocol(key.protocol);
        let port = |side: &Side| Some(side.port).filter(|_| protocol.has_ports());
        let rule = Some(value.rule).filter(|rule| *rule != NO_RULE);
        Flow {
            direction: if is_inward(key) { Direction::Ingress } else { Direction::Egress },
            protocol,
            local: local.address,
            local_port: port(&local),
            peer: self.known.end(peer.address),
            peer_port: port(&peer),
            // One of a later agent's, whose table this one does not take over.
            state: State::of(value.state).unwrap_or(State::UdpUnreplied),
            established: value.flags & FLOW_ESTABLISHED != 0,
            // Tenths: it is noted once a second.
            idle: (now.saturating_sub(value.last_seen) / 100_000_000) as f64 / 10.0,
            interfaces: self.known.interfaces(key.zone),
            generation: value.generation,
            rule: rule.and_then(|rule| self.known.rule(value.generation, rule)),
            audit: value.flags & FLOW_AUDIT != 0,
        }
    }
}

fn write(lines: &mut Vec<u8>, line: &Line) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *lines, line).context("writing a flow")?;
    lines.push(b'\n');
    Ok(())
}

/// One end of a flow.
struct Side {
    address: IpAddr,
    port: u16,
}

/// Whether the peer began it.
const fn is_inward(key: &FlowKey) -> bool {
    key.direction == Towards::Ingress.index() as u8
}

/// The end on this side of the interface, and the peer's.
fn sides(key: &FlowKey) -> (Side, Side) {
    let initiator = Side { address: to_ip(&key.initiator), port: key.initiator_port };
    let responder = Side { address: to_ip(&key.responder), port: key.responder_port };
    if is_inward(key) { (responder, initiator) } else { (initiator, responder) }
}
