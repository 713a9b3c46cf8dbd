//! Venues → rules: each one's lanes, then its default deny.

use super::overlap::Covered;
use super::resolver::Resolver;
use super::sets::Place;
use super::{Block, Receivers, Rule, SelectorId, ServiceId, Venue};
use crate::address::AddressSet;
use crate::frontend::diagnostic::{Diagnostic, Location};
use crate::frontend::policy::{self, Action, Autogroup, Record, Section, Selector};
use crate::frontend::source::Spanned;
use crate::interval::Intervals;
use crate::service::Service;

/// What the venues section becomes.
#[derive(Default)]
pub(super) struct Venues {
    pub(super) venues: Vec<Venue>,
    pub(super) rules: Vec<Rule>,
    pub(super) receivers: Vec<Receivers>,
}

impl Resolver<'_> {
    /// The venues' rules, in the order in which they are tried. Overlaps are found on the way.
    pub(super) fn venues(&mut self) -> Venues {
        let policy = self.policy;
        let mut all = Venues::default();
        if policy.venues.is_empty() {
            return all;
        }
        let own = self.sets.directory.own();
        let covered: Vec<Covered<'_>> = policy.venues.iter().map(|venue| Covered::new(venue, &own)).collect();
        self.overlaps(&covered);
        let covered_all = covered.iter().fold(AddressSet::default(), |all, venue| all.union(&venue.set));
        let everything = self.service(Service::everything());
        let mut number = policy.rules();
        for (index, covered) in (0..).zip(&covered) {
            let venue = covered.venue;
            let lanes = venue.feeds.iter().map(|lane| ("feed", lane));
            let lanes = lanes.chain(venue.sessions.iter().map(|lane| ("session", lane)));
            let mut counted = [("feed", 0), ("session", 0)];
            for (kind, lane) in lanes {
                let count = &mut counted[usize::from(kind == "session")].1;
                *count += 1;
                let name = match &lane.name {
                    Some(name) => name.value.clone(),
                    None => format!("{} {kind} {count}", venue.name.value),
                };
                number += 1;
                let (blocks, receivers) = self.lane(lane, (covered, &covered_all), kind == "feed");
                all.receivers.extend(receivers);
                all.rules.push(Rule {
                    number,
                    section: Section::Venues,
                    action: Action::Accept,
                    name: Some(name),
                    location: Some(Location::new(&policy.source, lane.span)),
                    expires: lane.expires.as_ref().map(|time| time.value),
                    rates: lane.rates,
                    one_way: lane.one_way,
                    tls: None,
                    record: Record::default(),
                    grant: None,
                    venue: Some(index),
                    is_session: kind == "session",
                    blocks,
                });
            }
            number += 1;
            let everybody = self.push("every address".into(), all_of_families(&covered.set));
            let addresses = self.push(venue.name.value.clone(), covered.set.clone());
            let location = Location::new(&policy.source, venue.name.span);
            all.rules.push(default_deny(number, index, venue, &location, (everybody, addresses, everything)));
            all.venues.push(Venue { name: venue.name.value.clone(), location, addresses });
        }
        all
    }

    fn lane(
        &mut self,
        lane: &policy::Lane,
        (covered, all): (&Covered<'_>, &AddressSet),
        feed: bool,
    ) -> (Vec<Block>, Option<Receivers>) {
        let (protocol, ports) = &lane.service;
        let service = self.service(Service::new(Some(*protocol), ports.clone(), false));
        let theirs: Vec<SelectorId> =
            lane.theirs.iter().filter_map(|net| self.resolve_venue_side(net, covered)).collect();
        let ours: Vec<SelectorId> =
            lane.ours.iter().filter_map(|selector| self.resolve_local_side(selector, all)).collect();
        let to = |ids: Vec<SelectorId>| ids.into_iter().map(|id| (id, service)).collect::<Vec<_>>();
        let (sources, destinations, receivers) = match (feed, &lane.groups[..]) {
            (false, _) => (ours, to(theirs), None),
            (true, []) => (theirs, to(ours), None),
            (true, groups) => {
                let ids = groups.iter().map(|group| {
                    self.push(group.value.to_string(), AddressSet::from_prefixes([&group.value]))
                });
                let ids: Vec<SelectorId> = ids.collect();
                let nodes = ours.iter().map(|id| &self.selectors[id.0 as usize].set);
                let nodes = nodes.fold(AddressSet::default(), |all, set| all.union(set));
                let groups = AddressSet::from_prefixes(groups.iter().map(|group| &group.value));
                let receivers = (!nodes.is_empty()).then_some(Receivers { groups, nodes });
                (theirs, to(ids), receivers)
            }
        };
        if sources.is_empty() || destinations.is_empty() {
            return (Vec::new(), None);
        }
        (vec![Block { sources, destinations, via: None }], receivers)
    }

    /// Our end of a lane: identities or addresses that are known, and no venue's. A star is whoever
    /// the inventory knows, the internet behind an exit not among them.
    fn resolve_local_side(
        &mut self,
        selector: &Spanned<Selector>,
        venues: &AddressSet,
    ) -> Option<SelectorId> {
        let everybody =
            matches!(selector.value, Selector::Autogroup(Autogroup::Internet | Autogroup::DangerAll));
        let id = match everybody {
            true => None,
            false => Some(self.used(selector, Place::source(Action::Accept), None)?),
        };
        // What is a venue's by name was said as an overlap.
        let named = matches!(&selector.value, Selector::Prefix(net) if net.prefix_len() > 0);
        let id = id.filter(|id| named || !self.selectors[id.0 as usize].set.intersects(venues));
        if id.is_none() {
            let message = format!("{} is no end of ours: it holds addresses of a venue", selector.value);
            let error = Diagnostic::error(&self.policy.source, selector.span, message);
            self.findings.push(error.help("name the tags or users at this side's end of the lane"));
        }
        id
    }

    /// The venue's end of a lane, which lies within the venue. What of it is a node's own is not
    /// the venue.
    fn resolve_venue_side(
        &mut self,
        net: &Spanned<ipnet::IpNet>,
        covered: &Covered<'_>,
    ) -> Option<SelectorId> {
        let set = AddressSet::from_prefixes([&net.value]);
        let declared = AddressSet::from_prefixes(covered.venue.addresses.iter().map(|net| &net.value));
        if !set.minus(&declared).is_empty() {
            let message = format!("\"{}\" is not within {}'s addresses", net.value, covered.venue.name.value);
            let error = Diagnostic::error(&self.policy.source, net.span, message)
                .help("a lane leads to the venue's own addresses only: add it to them, or leave it out");
            let error = match covered.venue.addresses.first() {
                Some(first) => error.related(&self.policy.source, first.span, "its addresses are here"),
                None => error,
            };
            self.findings.push(error);
            return None;
        }
        let set = set.intersection(&covered.set);
        if set.is_empty() {
            let message =
                format!("\"{}\" is a node's own address, not {}'s", net.value, covered.venue.name.value);
            let error = Diagnostic::error(&self.policy.source, net.span, message);
            let holder = self.inventory.holder(net.value.addr());
            self.findings.push(match holder {
                Some(node) => {
                    error.related(&self.inventory.source, node.span, format!("{} holds it", node.name))
                }
                None => error,
            });
            return None;
        }
        Some(self.push(net.value.to_string(), set))
    }
}

/// Every address that could talk to one of a set: of the families that the set has.
fn all_of_families(set: &AddressSet) -> AddressSet {
    let AddressSet { v4, v6 } = AddressSet::all();
    AddressSet {
        v4: if set.v4.is_empty() { Intervals::default() } else { v4 },
        v6: if set.v6.is_empty() { Intervals::default() } else { v6 },
    }
}

/// Nothing passes between a venue and anybody but its lanes, which stand before this.
fn default_deny(
    number: u32,
    index: u32,
    venue: &policy::Venue,
    location: &Location,
    (everybody, addresses, everything): (SelectorId, SelectorId, ServiceId),
) -> Rule {
    let block = |from, to| Block { sources: vec![from], destinations: vec![(to, everything)], via: None };
    Rule {
        name: Some(format!("{} default deny", venue.name.value)),
        location: Some(location.clone()),
        venue: Some(index),
        blocks: vec![block(everybody, addresses), block(addresses, everybody)],
        ..Rule::plain(number, Section::Venues, Action::Deny)
    }
}
