//! Policy and inventory → the ordered rules, with selectors as address sets.

mod directory;
mod names;
mod postures;
mod rules;
mod sets;

use serde::Serialize;

use crate::Dialect;
use crate::address::AddressSet;
use crate::diagnostic::{Findings, Location};
use crate::inventory::{Inventory, Network};
use crate::policy::{Action, Policy, Section};
use crate::service::Service;

/// Index of a selector in its [`Ruleset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SelectorId(pub u32);

/// Index of a service in its [`Ruleset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServiceId(pub u32);

/// A policy over an inventory: rules in the order in which they are tried, then deny.
#[derive(Clone, Debug)]
pub struct Ruleset {
    /// Rules; all acls in file order, then all grants.
    pub rules: Vec<Rule>,
    /// The distinct selectors that rules name.
    pub selectors: Vec<Selected>,
    /// The distinct services that rules name.
    pub services: Vec<Service>,
    /// The tests section, resolved.
    pub tests: Vec<Test>,
    /// The rules again, as they are if every source's device has the attributes that a test
    /// assumes: [`Test::assumed`] says which.
    pub assumed: Vec<Vec<Rule>>,
    /// Which addresses stand for nodes.
    pub network: Network,
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
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its number, from 1.
    pub number: u32,
    /// The section it stands in.
    pub section: Section,
    /// What it does.
    pub action: Action,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Where it stands; none for the rule that Tailscale's dialect imagines when there is no other.
    pub location: Option<Location>,
    /// From when on it is absent, ns since the Unix epoch.
    pub expires: Option<u64>,
    /// It matches if one of these does.
    pub blocks: Vec<Block>,
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
}

impl Rule {
    /// Its name, or its number and section.
    #[must_use]
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("rule {}", self.number))
    }
}

/// Resolves a policy over an inventory. Everything that does not resolve goes to `findings`;
/// the rules are good for use only if there is no error among them.
#[must_use]
pub fn resolve(
    policy: &Policy,
    inventory: &Inventory,
    dialect: Dialect,
    network: Network,
    findings: &mut Findings,
) -> Ruleset {
    names::check(policy, inventory, findings);
    rules::resolve(policy, inventory, dialect, network, findings)
}
