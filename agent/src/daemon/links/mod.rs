//! What interfaces miss of their links' protocols, for status: router advertisements, membership, and
//! groups that nobody but the policy's feeds should be in.

pub mod missed;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_abi::from_ip;
use bulkhead_engine::is_ptp_group;

use crate::config::{Link, Managed, Role};
use crate::daemon::links::missed::{Drops, Missed};
use crate::daemon::state::Live;

/// How long a drop is told of after the last: routers advertise themselves at least as often (RFC 4861
/// section 6.2.1, MaxRtrAdvInterval).
const RECENT: Duration = Duration::from_secs(1800);

/// Groups that a warning names; it counts the others.
const NAMED: usize = 3;

/// What the running interfaces miss, each with the next step.
///
/// # Errors
/// If the kernel's memberships or the running tables cannot be read.
pub fn warnings(managed: &[Managed], live: &Live, missed: &Missed) -> anyhow::Result<Vec<String>> {
    let mut warnings = Vec::new();
    for managed in managed {
        let attached = live.attached.iter().find(|attached| attached.interface == managed.name);
        let Some(attached) = attached.filter(|attached| attached.index != 0) else { continue };
        let drops = missed.of(&managed.name);
        warnings.extend(advertisements(managed, drops));
        if managed.link.contains(&Link::Igmp) {
            continue;
        }
        if managed.role != Role::Exchange {
            warnings.extend(memberships(managed, drops));
            continue;
        }
        let mut foreign = Vec::new();
        let of_ptp = |group: IpAddr| {
            let version = if group.is_ipv4() { 4 } else { 6 };
            managed.link.contains(&Link::Ptp) && is_ptp_group(version, &from_ip(group))
        };
        for group in joined(attached.index)? {
            if !is_of_link(group) && !of_ptp(group) && !live.built.is_feeds(group)? {
                foreign.push(group);
            }
        }
        warnings.extend(foreign_groups(&managed.name, &foreign));
    }
    Ok(warnings)
}

fn is_recent(time: Instant) -> bool {
    time.elapsed() < RECENT
}

fn advertisements(managed: &Managed, drops: Drops) -> Option<String> {
    let (_, router) = drops.advertisement.filter(|(time, _)| is_recent(*time))?;
    let router = router.map(|router| format!(" of {router}")).unwrap_or_default();
    (!managed.link.contains(&Link::Ra)).then(|| {
        format!(
            "interface {}: IPv6 router advertisements{router} are dropped, so that addresses and routes learnt \
             from them run out; add \"ra\" to its `link` in agent.toml, or set addresses and routes by hand",
            managed.name
        )
    })
}

fn memberships(managed: &Managed, drops: Drops) -> Option<String> {
    drops.membership.filter(|time| is_recent(*time)).map(|_| {
        format!(
            "interface {}: membership queries and reports (IGMP, MLD) are dropped, so that a switch which \
             snoops may keep multicast from this host, IPv6 neighbour discovery with it; add \"igmp\" to its \
             `link` in agent.toml",
            managed.name
        )
    })
}

fn foreign_groups(interface: &str, groups: &[IpAddr]) -> Option<String> {
    let named: Vec<_> = groups.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match groups.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!groups.is_empty()).then(|| {
        format!(
            "interface {interface}: processes of this host are in multicast groups of no feed: {}{more}; \
             membership reports leave without them, and their data is dropped. `ip maddress show` lists them; \
             leave them, or name them as `groups` of a feed",
            named.join(", ")
        )
    })
}

/// A group of the link itself, which reports may name, or of the interface, which none names.
fn is_of_link(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => matches!(v6.segments()[0], 0xff01 | 0xff02),
    }
}

/// The groups that the host is in on an interface, as the kernel says.
fn joined(index: u32) -> anyhow::Result<Vec<IpAddr>> {
    let read = |file: &str| match std::fs::read_to_string(file) {
        Ok(text) => Ok(text),
        // A kernel without that family.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("reading {file}")),
    };
    let mut groups = groups4(&read("/proc/thread-self/net/igmp")?, index);
    groups.extend(groups6(&read("/proc/thread-self/net/igmp6")?, index));
    Ok(groups)
}

/// /proc/net/igmp: a line for each interface, which begins with its index, and then one for each of its
/// groups, indented, which begins with the address as a number of the CPU's byte order.
fn groups4(text: &str, index: u32) -> Vec<IpAddr> {
    let mut groups = Vec::new();
    let mut is_meant = false;
    for line in text.lines().skip(1) {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !line.starts_with(char::is_whitespace) {
            is_meant = first.parse() == Ok(index);
        } else if let (true, Ok(bits)) = (is_meant, u32::from_str_radix(first, 16)) {
            groups.push(Ipv4Addr::from(bits.to_ne_bytes()).into());
        }
    }
    groups
}

/// /proc/net/igmp6: a line for each group: the interface's index and name, and the address.
fn groups6(text: &str, index: u32) -> Vec<IpAddr> {
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(Ok(of)), Some(Ok(bits))) =
            (words.next().map(str::parse::<u32>), words.nth(1).map(|word| u128::from_str_radix(word, 16)))
            && of == index
        {
            groups.push(Ipv6Addr::from_bits(bits).into());
        }
    }
    groups
}

#[cfg(test)]
mod tests;
