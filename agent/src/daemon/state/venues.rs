//! Venues that can be reached past the managed interfaces: there nothing keeps their lanes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use bulkhead_dataplane::name_of;
use bulkhead_policy::address::AddressSet;
use bulkhead_policy::resolve::{self, Ruleset};
use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::client;

/// A venue's name and addresses.
#[derive(Clone, Debug)]
pub struct Venue {
    name: String,
    addresses: AddressSet,
}

/// The venues of a policy.
#[must_use]
pub fn of(ruleset: &Ruleset) -> Vec<Venue> {
    let venues = ruleset.venues.iter();
    let addresses = |venue: &resolve::Venue| ruleset.selector(venue.addresses).set.clone();
    venues.map(|venue| Venue { name: venue.name.clone(), addresses: addresses(venue) }).collect()
}

/// The ends of each range: where a route of them all could begin or end to hold.
fn ends(set: &AddressSet) -> impl Iterator<Item = IpAddr> {
    let v4 = set.v4.as_slice().iter().flat_map(|(first, last)| [*first, *last]);
    let v6 = set.v6.as_slice().iter().flat_map(|(first, last)| [*first, *last]);
    let v4 = v4.map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)));
    v4.chain(v6.map(|bits| Ipv6Addr::from_bits(bits).into()))
}

/// What is wrong: each venue that the host would reach through another interface than those of
/// `managed`, by the routing tables of now.
///
/// # Errors
/// If routes cannot be asked for.
pub fn unmanaged(venues: &[Venue], managed: &[u32]) -> anyhow::Result<Vec<String>> {
    if venues.is_empty() {
        return Ok(Vec::new());
    }
    client::block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("asking for routes")?;
        let connection = tokio::spawn(connection);
        let routes = destinations(&handle).await.context("listing routes")?;
        let mut problems = Vec::new();
        for Venue { name, addresses } in venues {
            // A route to a part of the venue counts where that part begins and ends.
            let parts = routes.iter().map(|route| route.intersection(addresses));
            let parts: BTreeSet<IpAddr> =
                parts.flat_map(|part| ends(&part).collect::<Vec<_>>()).chain(ends(addresses)).collect();
            let mut past: BTreeMap<u32, IpAddr> = BTreeMap::new();
            for address in parts {
                if let Some(index) = interface_to(&handle, address).await
                    && !managed.contains(&index)
                {
                    past.entry(index).or_insert(address);
                }
            }
            for (index, address) in past {
                problems.push(format!(
                    "{name} is reachable ({address}) through interface {}, which is not managed; add it to \
                     agent.toml as [[interface]] with role = \"exchange\", or remove the route",
                    name_of(index).unwrap_or_else(|| format!("if{index}"))
                ));
            }
        }
        connection.abort();
        Ok(problems)
    })
}

/// The destinations of all routes, in every table, but for those to everywhere.
async fn destinations(handle: &Handle) -> Result<Vec<AddressSet>, rtnetlink::Error> {
    let mut destinations = Vec::new();
    let all: [RouteMessage; 2] =
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    for question in all {
        let mut routes = Box::pin(handle.route().get(question).execute());
        while let Some(route) = routes.try_next().await? {
            let address = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::from(*v4)),
                RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::from(*v6)),
                _ => None,
            });
            let length = route.header.destination_prefix_length;
            let prefix = address.and_then(|address| IpNet::new(address, length).ok());
            destinations.extend(prefix.map(|prefix| AddressSet::from_prefixes([&prefix])));
        }
    }
    Ok(destinations)
}

/// How a packet to an address would leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the interface of an index.
    By(u32),
    /// Not at all: it is the host's own.
    Here,
    /// No route is known.
    Unknown,
}

/// The way that a packet to an address would leave by.
///
/// # Errors
/// If routes cannot be asked for.
pub fn way_to(address: IpAddr) -> anyhow::Result<Way> {
    client::block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("asking for routes")?;
        let connection = tokio::spawn(connection);
        let way = find_way(&handle, address).await;
        connection.abort();
        Ok(way)
    })
}

/// The interface that a packet to an address would leave by; none if by none.
async fn interface_to(handle: &Handle, address: IpAddr) -> Option<u32> {
    match find_way(handle, address).await {
        Way::By(index) => Some(index),
        Way::Here | Way::Unknown => None,
    }
}

async fn find_way(handle: &Handle, address: IpAddr) -> Way {
    let question: RouteMessage = match address {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4, 32).build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6, 128).build(),
    };
    let mut answers = Box::pin(handle.route().get(question).execute());
    // An error is an answer, too: no route.
    let Some(Ok(answer)) = answers.next().await else { return Way::Unknown };
    if answer.header.kind == RouteType::Local {
        return Way::Here;
    }
    let index = answer.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    index.map_or(Way::Unknown, Way::By)
}
