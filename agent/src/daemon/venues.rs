//! Venues that can be reached past the managed interfaces: there nothing keeps their lanes.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use bulkhead_compiler::address::AddressSet;
use bulkhead_compiler::resolve::Ruleset;
use futures_util::StreamExt as _;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::client;

/// The ends of each range of a venue's addresses: where routes are asked for.
#[derive(Clone, Debug)]
pub struct Venue {
    /// `venue:NAME`.
    pub name: String,
    ends: Vec<IpAddr>,
}

/// The venues of a policy.
#[must_use]
pub fn of(ruleset: &Ruleset) -> Vec<Venue> {
    let venues = ruleset.venues.iter();
    venues
        .map(|venue| Venue { name: venue.name.clone(), ends: ends(&ruleset.selector(venue.addresses).set) })
        .collect()
}

fn ends(set: &AddressSet) -> Vec<IpAddr> {
    let v4 = set.v4.as_slice().iter().flat_map(|(first, last)| [*first, *last]);
    let v6 = set.v6.as_slice().iter().flat_map(|(first, last)| [*first, *last]);
    let v4 = v4.map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)));
    let ends: BTreeSet<IpAddr> = v4.chain(v6.map(|bits| Ipv6Addr::from_bits(bits).into())).collect();
    ends.into_iter().collect()
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
        let mut problems = Vec::new();
        for venue in venues {
            let mut past: HashMap<u32, IpAddr> = HashMap::new();
            for end in &venue.ends {
                if let Some(index) = interface_to(&handle, *end).await
                    && !managed.contains(&index)
                {
                    past.entry(index).or_insert(*end);
                }
            }
            for (index, address) in past {
                let name = name_of(index);
                problems.push(format!(
                    "{} is reachable ({address}) through interface {name}, which is not managed; add it to \
                     agent.toml as [[interface]] with role = \"exchange\", or remove the route",
                    venue.name
                ));
            }
        }
        connection.abort();
        Ok(problems)
    })
}

/// Where a packet to an address would leave; none if nowhere, or if it is the host's own.
async fn interface_to(handle: &Handle, address: IpAddr) -> Option<u32> {
    let question: RouteMessage = match address {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4, 32).build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6, 128).build(),
    };
    let mut answers = Box::pin(handle.route().get(question).execute());
    // An error is an answer, too: no route.
    let answer = answers.next().await?.ok()?;
    if answer.header.kind == RouteType::Local {
        return None;
    }
    answer.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn name_of(index: u32) -> String {
    let mut name = [0; libc::IFNAMSIZ];
    // SAFETY: room for the longest name and its end.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if found.is_null() {
        return format!("if{index}");
    }
    name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8 as char).collect()
}
