//! Whether something may be granted: by what its selectors mean over an inventory, not by how they are written.

use super::resolver::Resolver;
use super::sets::{Place, Unresolved};
use crate::Dialect;
use crate::address::AddressSet;
use crate::frontend::diagnostic::Findings;
use crate::frontend::inventory::{Inventory, Network};
use crate::frontend::policy::{Action, Destination, Grantable, Policy, Selector, destination, protocol_of};
use crate::interval::Intervals;
use crate::service::{Service, name_of};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Who begins: a selector.
    pub source: &'a str,
    /// To whom: `SELECTOR:PORTS`.
    pub destination: &'a str,
    /// The protocol, by name or number.
    pub protocol: &'a str,
    /// For how long, in seconds.
    pub seconds: u64,
    /// As an emergency.
    pub break_glass: bool,
}

/// Why something may not be granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGrantable {
    /// No selector, ports or protocol.
    #[error("{0}")]
    Malformed(String),
    /// A selector that means nobody: what it would mean later, nobody has approved.
    #[error("{0} matches nobody in the inventory")]
    Nobody(String),
    /// The policy has nothing of the kind.
    #[error("the policy has no {0}grantable: nothing may be granted so")]
    None(&'static str),
    /// It is more than any entry has.
    #[error("it is wider than what may be granted: {0}")]
    Wider(String),
    /// It is for longer than any entry that has it.
    #[error("it is for {seconds} s, and {title} is for {longest} s at most")]
    TooLong {
        /// Its time.
        seconds: u64,
        /// The entry that has the longest.
        title: String,
        /// That entry's.
        longest: u64,
    },
}

/// The entries that have all of it: each says by itself who is to approve.
///
/// # Errors
/// Why there are none.
pub fn entries<'p>(
    policy: &'p Policy,
    inventory: &Inventory,
    dialect: Dialect,
    wanted: Wanted<'_>,
) -> Result<Vec<&'p Grantable>, NotGrantable> {
    let mut findings = Findings::default();
    let resolver = Resolver::new(policy, inventory, dialect, Network::Overlay, &mut findings);
    let asked = resolver.asked(wanted)?;
    let of_kind = || policy.grantable.iter().filter(|entry| entry.break_glass == wanted.break_glass);
    if of_kind().next().is_none() {
        return Err(NotGrantable::None(if wanted.break_glass { "breakGlass " } else { "" }));
    }
    let mut wider = Vec::new();
    let mut fitting: Vec<&Grantable> = Vec::new();
    for entry in of_kind() {
        match resolver.lacks(entry, &asked, inventory) {
            None => fitting.push(entry),
            Some(why) => wider.push(format!("{} has not {why}", entry.title())),
        }
    }
    let Some(longest) = fitting.iter().max_by_key(|entry| entry.longest.value).copied() else {
        return Err(NotGrantable::Wider(wider.join("; ")));
    };
    fitting.retain(|entry| wanted.seconds <= entry.longest.value);
    if fitting.is_empty() {
        let (title, longest) = (longest.title(), longest.longest.value);
        return Err(NotGrantable::TooLong { seconds: wanted.seconds, title, longest });
    }
    Ok(fitting)
}

/// Whether a node is an end of it: it begins or is reached at one of the node's addresses, or behind its routes.
///
/// # Errors
/// If it cannot be understood, or a selector means nobody.
pub fn is_end(
    policy: &Policy,
    inventory: &Inventory,
    dialect: Dialect,
    wanted: Wanted<'_>,
    node: &str,
) -> Result<bool, NotGrantable> {
    let mut findings = Findings::default();
    let resolver = Resolver::new(policy, inventory, dialect, Network::Overlay, &mut findings);
    let Asked { source, destination, .. } = resolver.asked(wanted)?;
    let Some(node) = inventory.node(node) else { return Ok(false) };
    let underlay = node.underlay.iter().copied();
    let own = AddressSet::from_addresses(inventory.overlay_addresses(node).chain(underlay));
    let own = own.union(&AddressSet::from_prefixes(&node.routes));
    Ok(source.intersects(&own) || destination.intersects(&own))
}

struct Asked {
    source: AddressSet,
    destination: AddressSet,
    points: Intervals<u32>,
}

fn points(protocol: u8, services: &[(Option<u8>, Intervals<u16>)]) -> Intervals<u32> {
    services.iter().fold(Intervals::new(Vec::new()), |all, (_, ports)| {
        all.union(&Service::new(Some(protocol), ports.clone(), false).points())
    })
}

impl Resolver<'_> {
    fn asked(&self, wanted: Wanted<'_>) -> Result<Asked, NotGrantable> {
        let malformed = |message: String| NotGrantable::Malformed(message);
        let protocol = protocol_of(wanted.protocol).map_err(malformed)?;
        let Destination { selector: to, services } =
            destination(wanted.destination, protocol).map_err(malformed)?;
        let from = Selector::parse(wanted.source).map_err(|problem| malformed(problem.message))?;
        Ok(Asked {
            source: self.meant(&from, Place::source(Action::Accept))?,
            destination: self.meant(&to.value, Place::destination(Action::Accept))?,
            points: points(protocol, &services),
        })
    }

    /// Whom a selector means; nobody is an error here.
    fn meant(&self, selector: &Selector, place: Place) -> Result<AddressSet, NotGrantable> {
        if self.sets.is_foreign(selector) {
            return Err(NotGrantable::Nobody(selector.to_string()));
        }
        let set = self.sets.set(selector, place).map_err(|Unresolved { message, help }| {
            NotGrantable::Malformed(help.map_or(message.clone(), |help| format!("{message}: {help}")))
        })?;
        if set.is_empty() { Err(NotGrantable::Nobody(selector.to_string())) } else { Ok(set) }
    }

    /// What of it an entry does not have, in words; none: it has all of it.
    fn lacks(&self, entry: &Grantable, asked: &Asked, inventory: &Inventory) -> Option<String> {
        let of = |selector: &Selector, place| self.sets.set(selector, place).unwrap_or_default();
        let who = |set: &AddressSet| {
            let address = set.first()?;
            let name = inventory.holder(address).map(|node| format!("{} ", node.name)).unwrap_or_default();
            Some(format!("{name}({address})"))
        };
        let sources = entry.sources.iter().map(|source| of(&source.value, Place::source(Action::Accept)));
        let left = sources.fold(asked.source.clone(), |left, set| left.minus(&set));
        if let Some(who) = who(&left) {
            return Some(format!("the source {who}"));
        }
        let place = Place::destination(Action::Accept);
        let (mut left, mut in_none) = (asked.destination.clone(), asked.destination.clone());
        for Destination { selector, services } in &entry.destinations {
            let set = of(&selector.value, place);
            let all = services.iter().fold(Intervals::new(Vec::new()), |all, (protocol, ports)| {
                all.union(&Service::new(*protocol, ports.clone(), false).points())
            });
            in_none = in_none.minus(&set);
            if asked.points.minus(&all).is_empty() {
                left = left.minus(&set);
            }
        }
        if let Some(who) = who(&in_none) {
            return Some(format!("the destination {who}"));
        }
        let protocol =
            entry.destinations.iter().flat_map(|to| &to.services).find_map(|(protocol, _)| *protocol);
        let protocol =
            protocol.map(|protocol| format!("; its protocol is {}", name_of(protocol))).unwrap_or_default();
        who(&left).map(|who| format!("these ports at {who}{protocol}"))
    }
}
