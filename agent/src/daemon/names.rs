//! What numbers in events mean: addresses, interfaces and rules of one generation.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_abi::{AggregateKey, Event, KIND_SENDER, NO_RULE, to_ip};
use bulkhead_api::status::RuleName;
use bulkhead_engine::{Action, Reason};
use bulkhead_policy::resolve::Ruleset;
use ipnet::IpNet;

use super::clock::BootClock;
use super::inputs::Inputs;
use crate::config::Mode;
use crate::report::{DropReport, Enforced, protocol_name};

/// Names of one generation.
#[derive(Clone, Debug)]
pub struct Names {
    hosts: HashMap<IpAddr, String>,
    routes: Vec<(IpNet, String)>,
    interfaces: Arc<Mutex<HashMap<u32, String>>>,
    rules: Vec<RuleName>,
    audit: bool,
}

impl Names {
    /// Names of what a generation was made from. Interfaces are known by all indices that they
    /// have had, which all generations share.
    #[must_use]
    pub fn new(inputs: &Inputs, interfaces: Arc<Mutex<HashMap<u32, String>>>) -> Self {
        let Inputs { ruleset, inventory, program, exchange, .. } = inputs;
        let hosts = inventory
            .nodes
            .iter()
            .flat_map(|node| node.addresses.iter().chain(&node.underlay).map(|ip| (*ip, node.name.clone())))
            .collect();
        let mut routes: Vec<_> = inventory
            .nodes
            .iter()
            .flat_map(|node| node.routes.iter().map(|route| (*route, node.name.clone())))
            .collect();
        routes.sort_by_key(|(route, _)| std::cmp::Reverse(route.prefix_len()));
        let rule_names = |ruleset: &Ruleset, rules: &[usize]| -> Vec<RuleName> {
            let rules = rules.iter().map(|index| &ruleset.rules[*index]);
            rules
                .map(|rule| RuleName {
                    number: rule.number,
                    name: rule.name.clone(),
                    position: rule.location.as_ref().map(ToString::to_string),
                })
                .collect()
        };
        let mut rules = rule_names(ruleset, &program.rules);
        if let Some(exchange) = exchange {
            rules.extend(rule_names(&exchange.ruleset, &exchange.program.rules));
        }
        Self { hosts, routes, interfaces, rules, audit: inputs.mode == Mode::Audit }
    }

    /// The rules by the numbers that the kernel reports.
    #[must_use]
    pub fn rules(&self) -> &[RuleName] {
        &self.rules
    }

    /// How many rules of the policy these are: one may be in both sets of tables.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rules.iter().map(|rule| rule.number).collect::<HashSet<_>>().len()
    }

    /// Names of a generation that nothing is known of but whether it was in audit mode.
    #[must_use]
    pub fn unknown(interfaces: Arc<Mutex<HashMap<u32, String>>>, audit: bool) -> Self {
        Self { hosts: HashMap::new(), routes: Vec::new(), interfaces, rules: Vec::new(), audit }
    }

    /// A rule by the number that the kernel reports.
    #[must_use]
    pub fn rule(&self, number: u32) -> Option<&RuleName> {
        self.rules.get(number as usize)
    }

    /// Who has an address: a node, or the node that routes to it.
    #[must_use]
    pub fn host(&self, address: IpAddr) -> Option<String> {
        let routed = || {
            let (route, node) = self.routes.iter().find(|(route, _)| route.contains(&address))?;
            Some(format!("{node} (route {route})"))
        };
        self.hosts.get(&address).cloned().or_else(routed)
    }

    /// The report of a ring event.
    #[must_use]
    pub fn event(&self, event: &Event, clock: &BootClock) -> DropReport {
        let report = self.report(&event.key, event.time, 1, u64::from(event.length), clock);
        DropReport { source_port: event.source_port, ..report }
    }

    /// The report of an aggregate.
    #[must_use]
    pub fn report(
        &self,
        key: &AggregateKey,
        time: u64,
        count: u64,
        bytes: u64,
        clock: &BootClock,
    ) -> DropReport {
        let address = |words| Some(to_ip(words)).filter(|ip: &IpAddr| !ip.is_unspecified());
        let (source, destination) = (address(&key.source), address(&key.destination));
        let rule = if key.rule == NO_RULE { None } else { self.rule(key.rule) };
        let reason = Reason::from_number(key.reason & 0x7f);
        let is_frame = reason == Some(Reason::LinkProtocol);
        DropReport {
            time: clock.rfc3339(time),
            direction: if key.reason & 0x80 == 0 { "ingress" } else { "egress" }.to_owned(),
            source,
            source_name: source.and_then(|ip| self.host(ip)),
            source_port: 0,
            destination,
            destination_name: destination.and_then(|ip| self.host(ip)),
            port: if is_frame { 0 } else { key.port },
            protocol: if key.kind == KIND_SENDER { "any".to_owned() } else { protocol_name(key.protocol) },
            ethertype: is_frame.then(|| format!("{:#06x}", key.port)),
            reason: reason.map_or_else(|| (key.reason & 0x7f).to_string(), |reason| reason.name().to_owned()),
            rule: rule.map(|rule| rule.number),
            rule_name: rule.and_then(|rule| rule.name.clone()),
            position: rule.and_then(|rule| rule.position.clone()),
            interface: self
                .interfaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&key.interface)
                .cloned()
                .unwrap_or_else(|| format!("if{}", key.interface)),
            count,
            bytes,
            generation: key.generation,
            audit: self.audit,
            many: key.kind == KIND_SENDER,
            enforced: None,
        }
    }

    /// What the enforced generation, whose names these are, did where its shadow would not.
    #[must_use]
    pub fn enforced(&self, key: &AggregateKey) -> Enforced {
        let rule = if key.other_rule == NO_RULE { None } else { self.rule(key.other_rule) };
        let reason = Reason::from_number(key.other_reason);
        Enforced {
            reason: reason.map_or_else(|| key.other_reason.to_string(), |reason| reason.name().to_owned()),
            passed: reason.is_some_and(|reason| reason.action() == Action::Pass),
            rule: rule.map(|rule| rule.number),
            rule_name: rule.and_then(|rule| rule.name.clone()),
            position: rule.and_then(|rule| rule.position.clone()),
        }
    }
}
