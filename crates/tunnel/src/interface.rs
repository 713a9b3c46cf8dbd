//! The TUN interface: made, addressed and routed by rtnetlink. The kernel removes it with our last handle on
//! it, however the process ends.

use std::io;
use std::net::IpAddr;

use anyhow::Context as _;
use ipnet::IpNet;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use tun_rs::{AsyncDevice, DeviceBuilder};

use super::config::{Config, Table};

/// Packets the interface holds for us while we are busy; the kernel's default for TUN drops bursts.
const QUEUE_LENGTH: u32 = 1000;

/// Creates the interface, gives it its addresses and MTU, brings it up and adds the routes.
///
/// # Errors
/// What the system refused, with what to do about it. Nothing is left behind.
pub async fn create(name: &str, config: &Config) -> anyhow::Result<AsyncDevice> {
    let (connection, netlink, _) = rtnetlink::new_connection().context("open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let result = build(name, config, &netlink).await;
    connection.abort();
    result
}

async fn build(name: &str, config: &Config, netlink: &Handle) -> anyhow::Result<AsyncDevice> {
    // Opening an existing TUN would join it, so look first. Two tunnels started at the same instant still
    // cannot share one: without multi-queue the second open fails.
    if index_of(name).is_some() {
        anyhow::bail!("interface {name} exists already; remove it, or choose another name with --interface");
    }
    let device = DeviceBuilder::new()
        .name(name)
        .packet_information(false)
        .enable(false)
        .build_async()
        .map_err(|error| explain(name, error))?;
    let index = index_of(name).with_context(|| format!("interface {name} vanished while it was set up"))?;
    let interface = &config.interface;

    let link = LinkUnspec::new_with_index(index).mtu(interface.mtu.into()).txqueuelen(QUEUE_LENGTH);
    netlink.link().set(link.build()).execute().await.with_context(|| format!("set the MTU of {name}"))?;
    // As the kernel's WireGuard: no link-local address of its own making, and so no solicitations nobody asked for.
    // A kernel without IPv6 refuses, and then there is nothing to prevent.
    let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let link = LinkUnspec::new_with_index(index)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none]))
        .build();
    if let Err(error) = netlink.link().set(link).execute().await {
        tracing::debug!(%error, "the interface keeps its link-local address");
    }
    for address in &interface.addresses {
        let request = netlink.address().add(index, address.addr(), address.prefix_len());
        request.execute().await.with_context(|| format!("add address {address} to {name}"))?;
    }
    let link = LinkUnspec::new_with_index(index).up().build();
    netlink.link().set(link).execute().await.with_context(|| format!("bring {name} up"))?;
    for prefix in config.peers.iter().flat_map(|peer| &peer.allowed) {
        add_route(netlink, index, *prefix, interface.table)
            .await
            .with_context(|| format!("add the route to {prefix} by {name}; set Table = off to add none"))?;
    }
    Ok(device)
}

async fn add_route(
    netlink: &Handle,
    index: u32,
    prefix: IpNet,
    table: Table,
) -> Result<(), rtnetlink::Error> {
    let table = match table {
        Table::Off => return Ok(()),
        Table::Main => u32::from(libc::RT_TABLE_MAIN),
        Table::Number(number) => number,
    };
    let message = match prefix.network() {
        IpAddr::V4(network) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(network, prefix.prefix_len())
            .scope(RouteScope::Link)
            .output_interface(index)
            .table_id(table)
            .protocol(RouteProtocol::Static)
            .build(),
        IpAddr::V6(network) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(network, prefix.prefix_len())
            .output_interface(index)
            .table_id(table)
            .protocol(RouteProtocol::Static)
            .build(),
    };
    match netlink.route().add(message).execute().await {
        // An address of ours with a shorter prefix has brought the route already.
        Err(error) if exists(&error) => Ok(()),
        result => result,
    }
}

fn exists(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -libc::EEXIST)
}

/// The interface's index in our network namespace, if it is there.
fn index_of(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// What to do about a TUN that could not be made.
fn explain(name: &str, error: io::Error) -> anyhow::Error {
    let next = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => "this kernel has no TUN: `modprobe tun` loads it",
        Some(libc::EPERM | libc::EACCES) => "run as root, or with CAP_NET_ADMIN and access to /dev/net/tun",
        Some(libc::EBUSY) => {
            "another process holds it; stop that one, or choose another name with --interface"
        }
        _ => "/dev/net/tun must be there and usable",
    };
    anyhow::Error::new(error).context(format!("create interface {name} from /dev/net/tun; {next}"))
}
