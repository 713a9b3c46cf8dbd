//! Whatever names a venue's addresses beside the venue: that is how an exception grows.

use std::collections::HashSet;

use ipnet::IpNet;

use super::SelectorId;
use super::resolver::Resolver;
use super::sets::Place;
use crate::address::AddressSet;
use crate::frontend::diagnostic::{Diagnostic, Severity};
use crate::frontend::policy::ipset::Target;
use crate::frontend::policy::{self, Action, Selector};
use crate::frontend::source::{Span, Spanned};
use crate::interval::Intervals;

/// A venue and what its default deny covers.
pub(super) struct Covered<'a> {
    pub(super) venue: &'a policy::Venue,
    /// Its addresses without those that are nodes' own, and its feeds' groups.
    pub(super) set: AddressSet,
    /// What nobody else may name: the same, and as a NAT64 gateway translates it.
    named: AddressSet,
}

/// IPv4 addresses as IPv6 ones in the prefix of NAT64 (RFC 6052).
pub(super) fn translated(v4: &Intervals<u32>) -> AddressSet {
    const NAT64: u128 = 0x0064_ff9b << 96;
    let ranges = v4.as_slice().iter();
    let ranges = ranges.map(|(first, last)| (NAT64 | u128::from(*first), NAT64 | u128::from(*last)));
    AddressSet { v6: Intervals::new(ranges.collect()), ..AddressSet::default() }
}

impl<'a> Covered<'a> {
    pub(super) fn new(venue: &'a policy::Venue, own: &AddressSet) -> Self {
        let nets = venue.addresses.iter().map(|net| &net.value);
        let groups = venue.feeds.iter().flat_map(|lane| &lane.groups).map(|net| &net.value);
        let set = AddressSet::from_prefixes(nets).minus(own).union(&AddressSet::from_prefixes(groups));
        let named = set.union(&translated(&set.v4));
        Self { venue, set, named }
    }

    /// Where it names addresses of a set; its name, if nowhere in particular.
    fn place(&self, set: &AddressSet) -> Span {
        let groups = self.venue.feeds.iter().flat_map(|lane| &lane.groups);
        let mut nets = self.venue.addresses.iter().chain(groups);
        let found = nets.find(|net| AddressSet::from_prefixes([&net.value]).intersects(set));
        found.map_or(self.venue.name.span, |net| net.span)
    }
}

const HELP: &str = "what passes between a venue and this side is its feeds and sessions: write it there, or name fewer addresses";

impl Resolver<'_> {
    /// Says every overlap of a venue with a prefix in a rule, a host, an IP set, a route or
    /// another venue. A star, /0 and autogroups are none: there the default deny wins, with a note.
    pub(super) fn overlaps(&mut self, venues: &[Covered<'_>]) {
        self.between_venues(venues);
        let policy = self.policy;
        let rules = policy.acls.iter().chain(&policy.grants).flatten().chain(&policy.granted);
        let in_rules = rules.flat_map(|rule| {
            rule.sources.iter().chain(rule.destinations.iter().map(|destination| &destination.selector))
        });
        let lanes = policy.venues.iter().flat_map(|venue| venue.feeds.iter().chain(&venue.sessions));
        let in_lanes = lanes.flat_map(|lane| &lane.ours);
        let in_sides = policy.boundaries.iter().flat_map(|boundary| boundary.sides.iter().flatten());
        let only = policy.boundaries.iter().flat_map(|boundary| &boundary.only);
        let in_only = only.flat_map(|entry| {
            entry.sources.iter().chain(entry.destinations.iter().map(|destination| &destination.selector))
        });
        for selector in in_rules.chain(in_lanes).chain(in_sides).chain(in_only) {
            if let Selector::Prefix(net) = &selector.value {
                self.named(net, selector.span, &format!("\"{net}\""), venues);
            }
        }
        for (name, net) in &policy.hosts {
            self.named(net, name.span, &format!("host \"{}\" ({net})", name.value), venues);
        }
        self.ipsets(venues);
        self.routes(venues);
        self.warn_node_addresses_in_venue(venues);
        self.notes(venues);
    }

    fn between_venues(&mut self, venues: &[Covered<'_>]) {
        for (index, venue) in venues.iter().enumerate() {
            for other in &venues[..index] {
                let both = venue.set.intersection(&other.set);
                if both.is_empty() {
                    continue;
                }
                let (name, other_name) = (&venue.venue.name.value, &other.venue.name.value);
                let error = Diagnostic::error(
                    &self.policy.source,
                    venue.place(&both),
                    format!("{name} overlaps {other_name}"),
                );
                let error = error
                    .related(&self.policy.source, other.place(&both), format!("{other_name} is here"))
                    .help("an address is one venue's: take it out of the other");
                self.findings.push(error);
            }
        }
    }

    fn named(&mut self, net: &IpNet, span: Span, what: &str, venues: &[Covered<'_>]) {
        if net.prefix_len() > 0 {
            self.overlap(&AddressSet::from_prefixes([net]), span, what, venues);
        }
    }

    fn overlap(&mut self, set: &AddressSet, span: Span, what: &str, venues: &[Covered<'_>]) {
        for venue in venues.iter().filter(|venue| venue.named.intersects(set)) {
            let error = Diagnostic::error(
                &self.policy.source,
                span,
                format!("{what} overlaps {}: that is how an exception grows", venue.venue.name.value),
            );
            let here = format!("{} is here", venue.venue.name.value);
            self.findings.push(error.related(&self.policy.source, venue.place(set), here).help(HELP));
        }
    }

    /// An IP set by the steps that leave a venue's address in it. A set of a set is said there.
    fn ipsets(&mut self, venues: &[Covered<'_>]) {
        let policy = self.policy;
        for (name, steps) in &policy.ipsets {
            for (index, step) in steps.iter().enumerate() {
                let (Target::Range(first, last), false) = (&step.value.target, step.value.remove) else {
                    continue;
                };
                let set = AddressSet::from_ranges([(*first, *last)]);
                if set.v4 == AddressSet::all().v4 || set.v6 == AddressSet::all().v6 {
                    continue;
                }
                let removed = steps[index + 1..].iter().filter(|later| later.value.remove);
                let left = removed.fold(set, |set, later| match self.sets.target(&later.value.target) {
                    Some(target) => set.minus(&target),
                    None => set,
                });
                self.overlap(&left, step.span, &format!("{} ({})", name.value, step.value.target), venues);
            }
        }
    }

    fn routes(&mut self, venues: &[Covered<'_>]) {
        let inventory = self.inventory;
        for node in &inventory.nodes {
            for route in node.routes.iter().filter(|route| route.prefix_len() > 0) {
                let set = AddressSet::from_prefixes([route]);
                for venue in venues.iter().filter(|venue| venue.named.intersects(&set)) {
                    let name = &venue.venue.name.value;
                    let message = format!("the route {route} of {} overlaps {name}", node.name);
                    let error = Diagnostic::error(&inventory.source, node.span, message)
                        .related(&self.policy.source, venue.place(&set), format!("{name} is here"))
                        .help("a venue is not reached through the overlay: route less");
                    self.findings.push(error);
                }
            }
        }
    }

    /// Nodes' own addresses within a venue's prefixes are not the venue: the default deny leaves them out. On the
    /// overlay that is hardly meant.
    fn warn_node_addresses_in_venue(&mut self, venues: &[Covered<'_>]) {
        let inventory = self.inventory;
        for venue in venues {
            let declared = AddressSet::from_prefixes(venue.venue.addresses.iter().map(|net| &net.value));
            let name = &venue.venue.name.value;
            for node in &inventory.nodes {
                let overlay = node.addresses.iter().map(|address| (Severity::Warning, address));
                let underlay = node.underlay.iter().map(|address| (Severity::Note, address));
                let within = overlay.chain(underlay).filter(|(_, address)| declared.contains(**address));
                for (severity, address) in within {
                    let message = format!(
                        "{address} of {} is within {name} and not covered: it is a node's own",
                        node.name
                    );
                    let found = Diagnostic::at(severity, &inventory.source, node.span, message);
                    let place = venue.place(&AddressSet::from_addresses([*address]));
                    self.findings.push(found.related(&self.policy.source, place, format!("{name} is here")));
                }
            }
        }
    }

    /// Selectors that hold a venue's addresses without naming them, where they would admit.
    fn notes(&mut self, venues: &[Covered<'_>]) {
        let policy = self.policy;
        let rules = policy.acls.iter().chain(&policy.grants).flatten().chain(&policy.granted);
        let mut said: HashSet<SelectorId> = HashSet::new();
        for rule in rules.filter(|rule| rule.action == Action::Accept) {
            let sources = rule.sources.iter().map(|selector| (selector, Place::source(Action::Accept)));
            let targets =
                rule.destinations.iter().map(|to| (&to.selector, Place::destination(Action::Accept)));
            for (selector, place) in sources.chain(targets) {
                self.note(selector, place, venues, &mut said);
            }
        }
    }

    fn note(
        &mut self,
        selector: &Spanned<Selector>,
        place: Place,
        venues: &[Covered<'_>],
        said: &mut HashSet<SelectorId>,
    ) {
        match &selector.value {
            // A host that overlaps is an error already, unless it is every address.
            Selector::Any | Selector::Autogroup(_) | Selector::IpSet(_) | Selector::Host(_) => {}
            Selector::Prefix(net) if net.prefix_len() == 0 => {}
            _ => return,
        }
        let Ok(id) = self.select(&selector.value, place, None) else { return };
        if !said.insert(id) {
            return;
        }
        for venue in venues {
            if venue.set.intersects(&self.selectors[id.0 as usize].set) {
                let name = &venue.venue.name.value;
                let message = format!(
                    "{} holds addresses of {name}: its default deny wins there, only its feeds and sessions pass",
                    selector.value
                );
                self.findings.push(Diagnostic::at(
                    Severity::Note,
                    &self.policy.source,
                    selector.span,
                    message,
                ));
            }
        }
    }
}
