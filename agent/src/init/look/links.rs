//! Interfaces, their addresses, and where default routes lead (rtnetlink(7)).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::init::host::Interface;

/// `ARPHRD_` numbers of links without a header of their own (linux/if_arp.h).
const ARPHRD_NONE: u16 = 0xfffe;
const ARPHRD_RAWIP: u16 = 519;

/// The interfaces of this network namespace but for loopback, by name.
pub(super) async fn list() -> anyhow::Result<Vec<Interface>> {
    let (connection, handle, _) = rtnetlink::new_connection().context("asking for interfaces")?;
    let connection = tokio::spawn(connection);
    let mut found = links(&handle).await.context("listing interfaces")?;
    addresses(&handle, &mut found).await.context("listing addresses")?;
    uplinks(&handle, &mut found).await.context("listing routes")?;
    connection.abort();
    let mut found: Vec<Interface> = found.into_values().collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.iter_mut().for_each(|interface| interface.addresses.sort_unstable());
    Ok(found)
}

async fn links(handle: &Handle) -> Result<BTreeMap<u32, Interface>, rtnetlink::Error> {
    let mut found = BTreeMap::new();
    let mut links = Box::pin(handle.link().get().execute());
    while let Some(link) = links.try_next().await? {
        if !link.header.flags.contains(LinkFlags::Loopback) {
            found.insert(link.header.index, read(&link));
        }
    }
    Ok(found)
}

fn read(link: &LinkMessage) -> Interface {
    let link_type = u16::from(link.header.link_layer_type);
    let mut interface =
        Interface { is_bare_ip: matches!(link_type, ARPHRD_NONE | ARPHRD_RAWIP), ..Interface::default() };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                interface.kind = kind.unwrap_or_default();
            }
            _ => {}
        }
    }
    interface
}

async fn addresses(handle: &Handle, found: &mut BTreeMap<u32, Interface>) -> Result<(), rtnetlink::Error> {
    let mut all = Box::pin(handle.address().get().execute());
    while let Some(message) = all.try_next().await? {
        let Some(interface) = found.get_mut(&message.header.index) else { continue };
        let of = |wants_local: bool| {
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) if wants_local => Some(*address),
                AddressAttribute::Address(address) if !wants_local => Some(*address),
                _ => None,
            })
        };
        // Where the other end has an address of its own, that is what `Address` is.
        let address: Option<IpAddr> = of(true).or_else(|| of(false));
        let network = address.and_then(|address| IpNet::new(address, message.header.prefix_len).ok());
        interface.addresses.extend(network);
    }
    Ok(())
}

async fn uplinks(handle: &Handle, found: &mut BTreeMap<u32, Interface>) -> Result<(), rtnetlink::Error> {
    let all: [RouteMessage; 2] =
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    for question in all {
        let mut routes = Box::pin(handle.route().get(question).execute());
        while let Some(route) = routes.try_next().await? {
            let is_default = route.header.destination_prefix_length == 0
                && route.header.table == RouteHeader::RT_TABLE_MAIN;
            for attribute in route.attributes.iter().filter(|_| is_default) {
                match attribute {
                    RouteAttribute::Oif(index) => mark(found, *index),
                    RouteAttribute::MultiPath(ways) => {
                        ways.iter().for_each(|way| mark(found, way.interface_index));
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

fn mark(found: &mut BTreeMap<u32, Interface>, index: u32) {
    if let Some(interface) = found.get_mut(&index) {
        interface.is_uplink = true;
    }
}
