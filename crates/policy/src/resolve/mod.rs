//! Policy and inventory → the ordered rules, with selectors as address sets.

mod absent;
mod boundaries;
mod cycles;
mod directory;
mod exemptions;
pub mod fingerprint;
pub mod grantable;
pub mod granted;
mod ipsets;
mod name_check;
mod overlap;
mod overlays;
mod placeholder;
mod postures;
mod resolver;
mod rules;
mod sets;
mod ssh;
mod tests;
mod underlay;
mod venues;
mod via;

pub use exemptions::{Exemptions, Management, PeerPorts, WireGuard};
pub use overlays::{Overlay, OverlayServices};
pub use placeholder::{World, placeholder, placeholder_as};
pub use underlay::{Outbound, Preset, Underlay, UnderlayRules, UsedPreset, underlay};

use ipnet::IpNet;
use serde::Serialize;

use crate::Dialect;
use crate::address::AddressSet;
use crate::frontend::diagnostic::{Diagnostic, Findings, Location};
use crate::frontend::inventory::{Inventory, Network, Node};
use crate::frontend::policy::posture::Attributes;
use crate::frontend::policy::{Action, Grant, OnDeny, Policy, Rates, Record, Section, Tls};
use crate::service::Service;
use resolver::Resolver;

/// Index of a selector in its [`Ruleset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SelectorId(pub u32);

/// Index of a service in its [`Ruleset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServiceId(pub u32);

/// A policy over an inventory: rules in the order in which they are tried, then deny.
#[derive(Clone, Debug)]
pub struct Ruleset {
    /// Rules: the agent's exemptions, if there are any; each venue's lanes and its default deny; all acls
    /// in file order; all grants; what is granted for a time.
    pub rules: Vec<Rule>,
    /// The distinct selectors that rules name.
    pub selectors: Vec<Selected>,
    /// The distinct services that rules name.
    pub services: Vec<Service>,
    /// The tests section, resolved.
    pub tests: Vec<Test>,
    /// What fails in sshTests. It is the policy's own test of itself, and told of where the tests section is run.
    pub ssh_failures: Vec<Diagnostic>,
    /// The rules again, as they are if every source's device has the attributes that a test
    /// assumes: [`Test::assumed`] says which.
    pub assumed: Vec<Vec<Rule>>,
    /// The venues.
    pub venues: Vec<Venue>,
    /// The boundaries.
    pub boundaries: Vec<Boundary>,
    /// Who receives which multicast groups.
    pub receivers: Vec<Receivers>,
    /// The policy's `hosts`: name and prefix.
    pub hosts: Vec<(String, IpNet)>,
    /// Which addresses stand for nodes.
    pub network: Network,
    /// Whoever is known and begins what no rule admits is told so.
    pub rejects: bool,
    /// The language that the policy is written in.
    pub dialect: Dialect,
}

/// A selector and whom it means.
#[derive(Clone, Debug)]
pub struct Selected {
    /// As written.
    pub label: String,
    /// The addresses.
    pub set: AddressSet,
    /// If it was cut down to devices of some postures: which, and what it was cut from.
    pub narrowed: Option<Narrowed>,
    /// What makes an address one of it.
    pub by: By,
}

/// What makes an address one of a selector's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Who holds it: owner, tags, role. It is a node's address.
    Identity,
    /// The address itself.
    Address,
}

/// What a selector was before a posture cut it down.
#[derive(Clone, Debug)]
pub struct Narrowed {
    /// The postures, any of which would do.
    pub postures: String,
    /// Whom the selector means by itself.
    pub from: AddressSet,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its number: acls and grants count from 1 in their order, then come the lanes and default denies of
    /// venues, then the agent's exemptions. The same on both networks. Grants that run count from 1,000,001.
    pub number: u32,
    /// The section it stands in.
    pub section: Section,
    /// What it does.
    pub action: Action,
    /// A deny: whoever is known and begins what it denies is told so.
    pub rejects: bool,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Where it stands; none for the rule that Tailscale's dialect adds when there is no other.
    pub location: Option<Location>,
    /// From when on it is absent, ns since the Unix epoch.
    pub expires: Option<u64>,
    /// What it admits a second at most.
    pub rates: Rates,
    /// What it admits starts no flow, and no reply passes.
    pub one_way: bool,
    /// How what it admits has to begin.
    pub tls: Option<Tls>,
    /// The venue that it is a lane or the default deny of: an index into [`Ruleset::venues`].
    pub venue: Option<u32>,
    /// It is a venue's session: order entry.
    pub is_session: bool,
    /// What it says of itself.
    pub record: Record,
    /// Who has asked for it and who has approved it, if it is a grant.
    pub grant: Option<Grant>,
    /// It matches if one of these does.
    pub blocks: Vec<Block>,
}

/// A venue: its addresses without those that are nodes' own, and the groups of its feeds.
#[derive(Clone, Debug)]
pub struct Venue {
    /// `venue:NAME`.
    pub name: String,
    /// Where it stands.
    pub location: Location,
    /// What its default deny covers.
    pub addresses: SelectorId,
}

/// A boundary: nothing crosses between its sides but what `only` names.
#[derive(Clone, Debug)]
pub struct Boundary {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub location: Location,
    /// Who is on each side.
    pub sides: Vec<Vec<SelectorId>>,
    /// What rules may admit all the same.
    pub only: Vec<Block>,
}

/// Nodes that receive multicast groups: there the groups are local, and own.
#[derive(Clone, Debug)]
pub struct Receivers {
    /// The groups.
    pub groups: AddressSet,
    /// The nodes, by their addresses.
    pub nodes: AddressSet,
}

/// Any of the sources to any of the destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Sources.
    pub sources: Vec<SelectorId>,
    /// Destinations, each with its service.
    pub destinations: Vec<(SelectorId, ServiceId)>,
    /// The router that carries it, an index into the inventory's nodes: it alone admits it, as
    /// far as the destination's end is concerned.
    pub via: Option<u32>,
}

/// One entry of the tests section.
#[derive(Clone, Debug)]
pub struct Test {
    /// Where it stands.
    pub location: Location,
    /// Who.
    pub source: SelectorId,
    /// The rules that it is about: an index into [`Ruleset::assumed`]; none means the policy's own.
    pub assumed: Option<usize>,
    /// Protocol; none means TCP or UDP.
    pub protocol: Option<u8>,
    /// To whom and which port, whether it must be admitted, and where that stands.
    pub targets: Vec<TestTarget>,
}

/// One destination of a test.
#[derive(Clone, Debug)]
pub struct TestTarget {
    /// Who.
    pub destination: SelectorId,
    /// Port.
    pub port: u16,
    /// Must it be admitted or denied?
    pub admitted: bool,
    /// Where it stands.
    pub location: Location,
}

impl Ruleset {
    /// A selector.
    #[must_use]
    pub fn selector(&self, id: SelectorId) -> &Selected {
        &self.selectors[id.0 as usize]
    }

    /// A service.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.0 as usize]
    }

    /// The multicast groups that a node receives.
    #[must_use]
    pub fn groups_of(&self, node: &Node) -> AddressSet {
        let addresses = node.addresses_on(self.network);
        let receives = |receivers: &&Receivers| addresses.iter().any(|a| receivers.nodes.contains(*a));
        let groups = self.receivers.iter().filter(receives);
        groups.fold(AddressSet::default(), |all, receivers| all.union(&receivers.groups))
    }
}

impl Rule {
    /// Its name, or its number and section.
    #[must_use]
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("rule {}", self.number))
    }

    /// Whether it is a venue's default deny: a deny of whatever is in none of its lanes.
    #[must_use]
    pub fn is_default_deny(&self) -> bool {
        self.venue.is_some() && self.action == Action::Deny
    }

    /// Whether the agent's configuration has it, not the policy.
    #[must_use]
    pub fn is_from_agent(&self) -> bool {
        matches!(
            self.section,
            Section::Management | Section::WireGuard | Section::Overlay | Section::Underlay
        )
    }

    /// Whether it keeps addresses off underlay interfaces, link protocols included.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.section == Section::Underlay && self.action == Action::Deny
    }

    /// Whether it is a management exemption, which quarantine does not touch.
    #[must_use]
    pub fn is_exempt(&self) -> bool {
        self.section == Section::Management
    }
}

/// Resolves a policy over an inventory. Everything that does not resolve goes to `findings`;
/// the rules are good for use only if there is no error among them.
///
/// On [`Network::Underlay`] the result holds the venues' section only.
#[must_use]
pub fn resolve(
    policy: &Policy,
    inventory: &Inventory,
    dialect: Dialect,
    network: Network,
    findings: &mut Findings,
) -> Ruleset {
    resolve_with(policy, inventory, dialect, network, &Exemptions::default(), findings)
}

impl Ruleset {
    /// Of no rules yet.
    fn empty(hosts: Vec<(String, IpNet)>, network: Network, dialect: Dialect) -> Self {
        Self {
            rules: Vec::new(),
            selectors: Vec::new(),
            services: Vec::new(),
            tests: Vec::new(),
            ssh_failures: Vec::new(),
            assumed: Vec::new(),
            venues: Vec::new(),
            boundaries: Vec::new(),
            receivers: Vec::new(),
            hosts,
            network,
            rejects: false,
            dialect,
        }
    }
}

impl Rule {
    /// A rule that no policy's author wrote: without a name and about nobody yet, with no end and no rate.
    fn plain(number: u32, section: Section, action: Action) -> Self {
        Self {
            number,
            section,
            action,
            rejects: false,
            name: None,
            location: None,
            expires: None,
            rates: Rates::default(),
            one_way: false,
            tls: None,
            record: Record::default(),
            grant: None,
            venue: None,
            is_session: false,
            blocks: Vec::new(),
        }
    }
}

/// [`resolve`], with what one node's agent exempts.
#[must_use]
pub fn resolve_with(
    policy: &Policy,
    inventory: &Inventory,
    dialect: Dialect,
    network: Network,
    exemptions: &Exemptions,
    findings: &mut Findings,
) -> Ruleset {
    name_check::check(policy, inventory, findings);
    // The agent takes these out of what sources list: the tables know no end of an attribute.
    for node in inventory.nodes.iter().filter(|node| !node.posture_expires.is_empty()) {
        let message = format!("{}: postureExpires is for what a source lists", node.name);
        let error = Diagnostic::error(&inventory.source, node.span, message);
        findings.push(
            error.help("nothing would end the attributes of a file: remove it, or list the node by a source"),
        );
    }
    let mut resolver = Resolver::new(policy, inventory, dialect, network, findings);
    resolver.default_posture();
    let venues = resolver.venues();
    let hosts = policy.hosts.iter().map(|(name, net)| (name.value.clone(), *net)).collect();
    let empty = Ruleset::empty(hosts, network, dialect);
    let mut ruleset = Ruleset { venues: venues.venues, receivers: venues.receivers, ..empty };
    let mut boundaries = Vec::new();
    if network == Network::Overlay {
        ruleset.rules = resolver.rules(None);
        ruleset.rejects = policy.on_deny == OnDeny::Reject;
        boundaries = resolver.boundaries();
        ruleset.ssh_failures = resolver.ssh();
        let mut assumed: Vec<(Attributes, Vec<Rule>)> = Vec::new();
        for test in &policy.tests {
            let assumption = test.attributes.as_ref().map(|attributes| {
                let known = assumed.iter().position(|(known, _)| known == attributes);
                known.unwrap_or_else(|| {
                    let rules = venues.rules.iter().cloned().chain(resolver.rules(Some(attributes)));
                    assumed.push((attributes.clone(), rules.collect()));
                    assumed.len() - 1
                })
            });
            ruleset.tests.extend(resolver.test(test, assumption));
        }
        resolver.tell_absent();
        ruleset.assumed = assumed.into_iter().map(|(_, rules)| rules).collect();
    }
    ruleset.rules.splice(0..0, venues.rules);
    let exempt = resolver.exempt(exemptions, &ruleset);
    if network == Network::Overlay {
        ruleset.rules.extend(resolver.granted());
    }
    (ruleset.selectors, ruleset.services) = (resolver.selectors, resolver.services);
    ruleset.boundaries = boundaries;
    ruleset.rules.splice(0..0, exempt);
    ruleset
}
