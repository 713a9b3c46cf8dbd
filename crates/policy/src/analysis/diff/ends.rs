//! The ends of flows in words: nodes by name, ranges of addresses joined, selectors that mean the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::Side;
use crate::address::AddressSet;
use crate::frontend::inventory::Node;

/// An end of flows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// Addresses that are no node's, all of one family.
    Range {
        /// The router in question, or the receiver, where it makes a difference.
        way: Option<String>,
        first: IpAddr,
        last: IpAddr,
    },
    /// A node, with its address if it has several of the family, and the way as above.
    Node { name: String, address: Option<IpAddr>, way: Option<String> },
}

impl End {
    /// Addresses that are no node's.
    pub(super) fn range(first: IpAddr, last: IpAddr) -> Self {
        Self::Range { way: None, first, last }
    }

    /// Whether it is one address or one node.
    pub(super) fn is_single(&self) -> bool {
        matches!(self, Self::Range { first, last, .. } if first == last) || matches!(self, Self::Node { .. })
    }

    /// The same end by a way.
    pub(super) fn by(&self, by: Option<&String>) -> Self {
        let mut end = self.clone();
        let (Self::Range { way, .. } | Self::Node { way, .. }) = &mut end;
        *way = by.cloned();
        end
    }
}

/// In order, each once, with ranges that touch made one.
pub(super) fn joined(mut ends: Vec<End>) -> Vec<End> {
    ends.sort();
    ends.dedup();
    let mut all: Vec<End> = Vec::with_capacity(ends.len());
    for end in ends {
        if let (Some(End::Range { way: of, last: until, .. }), End::Range { way, first, last }) =
            (all.last_mut(), &end)
            && of == way
            && touches(*until, *first)
        {
            *until = (*until).max(*last);
        } else {
            all.push(end);
        }
    }
    all
}

fn touches(last: IpAddr, first: IpAddr) -> bool {
    match (last, first) {
        (IpAddr::V4(last), IpAddr::V4(first)) => first.to_bits() <= last.to_bits().saturating_add(1),
        (IpAddr::V6(last), IpAddr::V6(first)) => first.to_bits() <= last.to_bits().saturating_add(1),
        _ => false,
    }
}

/// A range as a prefix, if it is one.
fn written(first: IpAddr, last: IpAddr) -> String {
    let length = |bits: u32, different: u32| (bits - different) as u8;
    let prefix = match (first, last) {
        _ if first == last => return first.to_string(),
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let different = 32 - (first.to_bits() ^ last.to_bits()).leading_zeros();
            let net = Ipv4Net::new(first, length(32, different)).ok();
            let is_whole = |net: &Ipv4Net| net.network() == first && net.broadcast() == last;
            net.filter(is_whole).map(|net| net.to_string())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let different = 128 - (first.to_bits() ^ last.to_bits()).leading_zeros();
            let net = Ipv6Net::new(first, length(128, different)).ok();
            let is_whole = |net: &Ipv6Net| net.network() == first && net.broadcast() == last;
            net.filter(is_whole).map(|net| net.to_string())
        }
        _ => None,
    };
    prefix.unwrap_or_else(|| format!("{first}-{last}"))
}

/// How many routers one range is said to be behind.
const ROUTERS: usize = 3;

/// Ends in words. A range that nodes route says behind whom it is; nodes come first.
pub(super) fn words(ends: &[End], side: &Side<'_>) -> Vec<String> {
    let (ranges, nodes): (Vec<&End>, Vec<&End>) =
        ends.iter().partition(|end| matches!(end, End::Range { .. }));
    let routers = side.inventory.routers().filter(|_| !ranges.is_empty()).map(|node| {
        let nets = node.routes_on(side.ruleset.network).iter();
        (node, AddressSet::from_prefixes(nets.filter(|net| net.prefix_len() > 0)))
    });
    let routers: Vec<(&Node, AddressSet)> = routers.collect();
    let behind = |first: &IpAddr, last: &IpAddr| {
        let range = AddressSet::from_ranges([(*first, *last)]);
        // A router may have the range in several routes, or not all of it.
        let named = |(node, routed): &(&Node, AddressSet)| {
            if !range.intersects(routed) {
                return None;
            }
            let is_whole = range.minus(routed).is_empty();
            Some(if is_whole { node.name.clone() } else { format!("{} in part", node.name) })
        };
        let routers: Vec<String> = routers.iter().filter_map(named).take(ROUTERS).collect();
        if routers.is_empty() { String::new() } else { format!(" behind {}", routers.join(" and ")) }
    };
    let word = |end: &End| match end {
        End::Node { name, address, way } => {
            let address = address.map(|address| format!(" ({address})")).unwrap_or_default();
            let way = way.as_ref().map(|way| format!(" {way}")).unwrap_or_default();
            format!("{name}{address}{way}")
        }
        End::Range { way: Some(way), first, last } => format!("{} {way}", written(*first, *last)),
        End::Range { way: None, first, last } => format!("{}{}", written(*first, *last), behind(first, last)),
    };
    nodes.into_iter().chain(ranges).map(word).collect()
}

/// Selectors of the side's rules, on the sources' or the destinations' side of them, that mean exactly
/// these ends; a node on the other side by itself may be missing, as it does not talk to itself.
pub(super) fn selectors(
    ends: &[End],
    others: &[End],
    v4: Option<bool>,
    side: &Side<'_>,
    sources: bool,
) -> Vec<String> {
    let network = side.ruleset.network;
    let of_family = |set: AddressSet| match v4 {
        Some(true) => AddressSet { v6: AddressSet::default().v6, ..set },
        Some(false) => AddressSet { v4: AddressSet::default().v4, ..set },
        None => set,
    };
    let ranges = |end: &End| -> Vec<(IpAddr, IpAddr)> {
        let all = match end {
            End::Range { first, last, .. } => return vec![(*first, *last)],
            End::Node { address: Some(address), .. } => std::slice::from_ref(address),
            End::Node { name, .. } => {
                side.inventory.node(name).map_or(&[][..], |node| node.addresses_on(network))
            }
        };
        all.iter().map(|address| (*address, *address)).collect()
    };
    // At once: a hundred thousand sets of one address that are joined one by one take minutes.
    let addresses = |ends: &[End]| AddressSet::from_ranges(ends.iter().flat_map(ranges));
    if ends.len() < 2
        || ends
            .iter()
            .any(|end| matches!(end, End::Node { way: Some(_), .. } | End::Range { way: Some(_), .. }))
    {
        return Vec::new();
    }
    let alone = match others {
        [End::Node { .. }] => addresses(others),
        _ => AddressSet::default(),
    };
    let set = of_family(addresses(ends)).minus(&alone);
    let Some(one) = set.first() else { return Vec::new() };
    let blocks = side.ruleset.rules.iter().flat_map(|rule| &rule.blocks);
    let mut ids: Vec<_> = blocks
        .flat_map(|block| match sources {
            true => block.sources.clone(),
            false => block.destinations.iter().map(|(id, _)| *id).collect(),
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let selected = ids.into_iter().map(|id| side.ruleset.selector(id));
    let mut labels: Vec<String> = selected
        .filter(|selected| selected.set.contains(one))
        .filter(|selected| {
            let theirs = of_family(selected.set.clone()).minus(&alone);
            theirs.minus(&set).is_empty() && set.minus(&theirs).is_empty()
        })
        .map(|selected| selected.label.clone())
        .collect();
    if labels.is_empty() {
        labels = owners(ends, &set, &alone, side, of_family);
    }
    labels.sort();
    labels.dedup();
    labels
}

/// Tags and users whose devices are exactly these, where no rule of the side names them.
fn owners(
    ends: &[End],
    set: &AddressSet,
    alone: &AddressSet,
    side: &Side<'_>,
    of_family: impl Fn(AddressSet) -> AddressSet,
) -> Vec<String> {
    let Some(End::Node { name, .. }) = ends.first() else { return Vec::new() };
    let Some(first) = side.inventory.node(name) else { return Vec::new() };
    let mut labels = first.tags().to_vec();
    labels.extend(first.user().map(str::to_owned));
    labels.retain(|label| {
        let carries = |node: &&Node| node.tags().contains(label) || node.user() == Some(label);
        let nodes = side.inventory.nodes.iter().filter(carries);
        let addresses = nodes.flat_map(|node| node.addresses_on(side.ruleset.network)).copied();
        of_family(AddressSet::from_addresses(addresses)).minus(alone) == *set
    });
    labels
}

/// A range of IPv4 addresses.
pub(super) fn range4(first: u32, last: u32) -> End {
    End::range(Ipv4Addr::from_bits(first).into(), Ipv4Addr::from_bits(last).into())
}

/// A range of IPv6 addresses.
pub(super) fn range6(first: u128, last: u128) -> End {
    End::range(Ipv6Addr::from_bits(first).into(), Ipv6Addr::from_bits(last).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one_and_prefixes_are_written_so() {
        let range = |first: &str, last: &str| End::range(first.parse().unwrap(), last.parse().unwrap());
        let cut = vec![
            range("10.128.0.0", "10.255.255.255"),
            range("10.0.0.0", "10.11.127.255"),
            range("10.11.128.0", "10.127.255.255"),
        ];
        assert_eq!(joined(cut), [range("10.0.0.0", "10.255.255.255")]);
        let apart = vec![range("10.0.0.0", "10.0.0.1"), range("10.0.0.3", "10.0.0.3")];
        assert_eq!(joined(apart.clone()), apart);
        let text = |first: &str, last: &str| written(first.parse().unwrap(), last.parse().unwrap());
        assert_eq!(text("10.0.0.0", "10.255.255.255"), "10.0.0.0/8");
        assert_eq!(text("0.0.0.0", "255.255.255.255"), "0.0.0.0/0");
        assert_eq!(text("10.0.0.1", "10.0.0.2"), "10.0.0.1-10.0.0.2");
        assert_eq!(text("10.0.0.1", "10.0.0.1"), "10.0.0.1");
        assert_eq!(text("fd7a::", "fd7a::ffff"), "fd7a::/112");
        assert_eq!(text("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "::/0");
    }
}
