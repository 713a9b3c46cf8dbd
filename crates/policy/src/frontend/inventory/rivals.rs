//! A workload's address that another host's routes lead to: its packets would go there, or nobody knows where.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Inventory, Node};
use crate::frontend::diagnostic::{Diagnostic, Findings};
use crate::frontend::json::{self, Kind, Value};
use crate::frontend::source::{Source, Span};

/// Tells of other nodes' routes that are as narrow as the host's own to a workload, or narrower. A wider one gives way to
/// the host's, as the longest prefix counts.
pub(super) fn check(inventory: &Inventory, findings: &mut Findings) {
    for workload in inventory.nodes.iter().filter(|node| node.workload.is_some()) {
        let host = inventory.host_of(workload);
        for address in &workload.addresses {
            let own = own(host, address);
            let others = inventory.routers().filter(|router| router.name != host.name);
            for (router, route) in others.filter_map(|router| Some((router, way(router, address)?))) {
                if route.prefix_len() >= own {
                    findings.push(error(&inventory.source, (workload, *address), (router, route)));
                }
            }
        }
    }
}

/// Workloads' addresses and routes, each with who lists it, for nodes that come later. The same is asked of them as of a
/// whole inventory.
#[derive(Default)]
pub(super) struct Routed<'i> {
    /// Each with the length of its host's narrowest route to it.
    workloads: BTreeMap<IpAddr, (u8, Option<&'i str>)>,
    routes: HashMap<IpNet, Option<&'i str>>,
}

impl<'i> Routed<'i> {
    /// What an earlier node has that a host with its workloads rivals, in words, and who lists that.
    pub(super) fn rival(&self, host: &Node, workloads: &[&Node]) -> Option<(String, Option<&'i str>)> {
        let leads_to = |route: &IpNet| {
            let mut held = self.workloads.range(route.network()..=route.broadcast());
            let (address, (_, by)) = held.find(|(_, (own, _))| route.prefix_len() >= *own)?;
            Some((format!("the address {address}, in the route {route} of {}", host.name), *by))
        };
        let is_led = |(workload, address): (&Node, IpAddr)| {
            let nets = (own(host, &address)..=IpNet::from(address).prefix_len())
                .filter_map(|length| IpNet::new(address, length).ok());
            let (route, by) = nets.rev().find_map(|net| self.routes.get_key_value(&net.trunc()))?;
            Some((format!("the route {route}, with the address {address} of {} in it", workload.name), *by))
        };
        let addresses = workloads
            .iter()
            .flat_map(|workload| workload.addresses.iter().map(move |address| (*workload, *address)));
        host.routes.iter().find_map(leads_to).or_else(|| { addresses }.find_map(is_led))
    }

    pub(super) fn add(&mut self, host: &'i Node, workloads: &[&'i Node], by: Option<&'i str>) {
        for route in &host.routes {
            self.routes.entry(route.trunc()).or_insert(by);
        }
        let addresses = workloads.iter().flat_map(|workload| &workload.addresses);
        self.workloads.extend(addresses.map(|address| (*address, (own(host, address), by))));
    }
}

/// How narrow a host's own route to an address of a workload of it is.
fn own(host: &Node, address: &IpAddr) -> u8 {
    way(host, address).map_or(0, |route| route.prefix_len())
}

/// The narrowest route of a node that leads to an address.
fn way(router: &Node, address: &IpAddr) -> Option<IpNet> {
    let routes = router.routes.iter().filter(|route| route.contains(address));
    routes.max_by_key(|route| route.prefix_len()).copied()
}

fn error(
    source: &Source,
    (workload, address): (&Node, IpAddr),
    (router, route): (&Node, IpNet),
) -> Diagnostic {
    let host = workload.host();
    let is_address = |text: &str| text.parse() == Ok(address);
    let is_route =
        |text: &str| text.parse() == Ok(route) || text.parse::<IpAddr>().map(IpNet::from) == Ok(route);
    Diagnostic::error(
        source,
        place(source, workload, "addresses", is_address),
        format!("{address} of {} is in a route of {} as well, {route}", workload.name, router.name),
    )
    .related(source, place(source, router, "routes", is_route), format!("{} routes it here", router.name))
    .help(format!(
        "a workload's packets go to its host alone: remove the route, or have {host} route \"{}\" and nobody else",
        IpNet::from(address)
    ))
    .recent()
}

/// Where a node has a text in a list.
fn place(source: &Source, node: &Node, list: &str, is: impl Fn(&str) -> bool) -> Span {
    let found = json::again(source, node.span).and_then(|value| {
        let Kind::Object(object) = &value.kind else { return None };
        let Kind::Array(elements) = &object.get(list)?.kind else { return None };
        let is_it = |element: &&Value<'_>| matches!(&element.kind, Kind::String(text) if is(text));
        elements.iter().find(is_it).map(|element| element.span)
    });
    let within = |span: Span| Span { start: node.span.start + span.start, end: node.span.start + span.end };
    found.map_or(node.span, within)
}
