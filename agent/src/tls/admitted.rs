//! What rules admit to a host's own overlay addresses, and how it is to begin.

use std::net::IpAddr;

use bulkhead_api::tls::{StartTls, Wanted};
use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::policy::{Action, Starttls, TlsMode};
use bulkhead_policy::resolve::Ruleset;
use bulkhead_policy::service::Service;

/// A rule that admits something to this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its number.
    pub rule: u32,
    /// What it wants of how that begins.
    pub wanted: Option<Wanted>,
    /// What comes before TLS.
    pub starttls: Option<StartTls>,
    /// The host's addresses, each with what is admitted there.
    pub services: Vec<(IpAddr, Service)>,
}

impl Admitted {
    /// Those of rules on overlay interfaces, by their indices. Whom they admit, and which rule comes first, is left
    /// aside: a rule that might admit anybody counts.
    #[must_use]
    pub fn of(ruleset: &Ruleset, rules: &[usize], inventory: &Inventory, node: &str) -> Vec<Self> {
        let Some(node) = inventory.node(node) else { return Vec::new() };
        let own: Vec<IpAddr> = inventory.overlay_addresses(node).collect();
        let accepts = rules.iter().map(|index| &ruleset.rules[*index]);
        let accepts = accepts.filter(|rule| rule.action == Action::Accept);
        accepts
            .map(|rule| {
                let destinations = rule.blocks.iter().flat_map(|block| &block.destinations);
                let services = destinations.flat_map(|(selector, service)| {
                    let set = &ruleset.selector(*selector).set;
                    let there = own.iter().filter(|address| set.contains(**address));
                    there.map(|address| (*address, ruleset.service(*service).clone()))
                });
                Self {
                    rule: rule.number,
                    wanted: rule.tls.map(|tls| match tls.mode {
                        TlsMode::Observe => Wanted::Observe,
                        TlsMode::Required => Wanted::Required,
                    }),
                    starttls: rule.tls.and_then(|tls| tls.starttls).map(|by| match by {
                        Starttls::Postgres => StartTls::Postgres,
                    }),
                    services: services.collect(),
                }
            })
            .filter(|admitted| !admitted.services.is_empty())
            .collect()
    }

    /// Whether it admits this.
    #[must_use]
    pub fn matches(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.services.iter().any(|(at, service)| *at == address && service.matches(protocol, port))
    }
}
