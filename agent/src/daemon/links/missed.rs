//! Drops of what a host needs of its link.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bulkhead_api::event::{Direction, Drop, Kind};
use bulkhead_engine::Reason;
use bulkhead_events::{Entry, Sink};

/// All routers of the link (RFC 4291 section 2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Drops of what a host needs of its link, by interface.
#[derive(Default)]
pub struct Missed(Mutex<BTreeMap<String, Drops>>);

/// The last drops on one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// When a router's advertisement was dropped, and whose.
    pub advertisement: Option<(Instant, Option<IpAddr>)>,
    /// When something about membership was.
    pub membership: Option<Instant>,
}

impl Missed {
    /// Notes a drop, if it is one of those. What is dropped by no program of now is told of all the same.
    pub fn note(&self, drop: &Drop) {
        let Some(interface) = &drop.interface else { return };
        let source = drop.source.as_ref().map(|end| end.address);
        let destination = drop.destination.as_ref().map(|end| end.address);
        // Solicitations go to all routers.
        let is_advertisement = drop.reason.is(Reason::RouterDiscovery)
            && drop.direction == Direction::Ingress
            && destination != Some(ALL_ROUTERS.into());
        // Queries pass; reports of other hosts are none of this one's business.
        let is_membership = drop.reason.is(Reason::MembershipGroup) && drop.direction == Direction::Egress;
        if !is_advertisement && !is_membership {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let drops = all.entry(interface.clone()).or_default();
        if is_advertisement {
            drops.advertisement = Some((Instant::now(), source));
        } else {
            drops.membership = Some(Instant::now());
        }
    }

    /// The last drops on an interface.
    pub fn of(&self, interface: &str) -> Drops {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(interface).copied().unwrap_or_default()
    }
}

/// Has events noted.
pub struct MissedSink(pub Arc<Missed>);

impl Sink for MissedSink {
    fn name(&self) -> &'static str {
        "links"
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        if let Kind::Drop(drop) = &entry.event.kind {
            self.0.note(drop);
        }
        Ok(())
    }
}
