//! Sets of IPv4 and IPv6 addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::interval::Intervals;

/// A set of addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressSet {
    /// IPv4 addresses as numbers.
    pub v4: Intervals<u32>,
    /// IPv6 addresses as numbers.
    pub v6: Intervals<u128>,
}

impl AddressSet {
    /// The union of closed ranges. Both ends of each are of one family.
    #[must_use]
    pub fn from_ranges(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in ranges {
            match range {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.to_bits(), last.to_bits())),
                _ => {}
            }
        }
        Self { v4: Intervals::new(v4), v6: Intervals::new(v6) }
    }

    /// The union of prefixes.
    #[must_use]
    pub fn from_prefixes<'a>(prefixes: impl IntoIterator<Item = &'a IpNet>) -> Self {
        Self::from_ranges(prefixes.into_iter().map(prefix_range))
    }

    /// The union of single addresses.
    #[must_use]
    pub fn from_addresses(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::from_ranges(addresses.into_iter().map(|address| (address, address)))
    }

    /// Every address.
    #[must_use]
    pub fn all() -> Self {
        Self { v4: Intervals::all(), v6: Intervals::all() }
    }

    /// Whether there is no address in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.contains(address.to_bits()),
            IpAddr::V6(address) => self.v6.contains(address.to_bits()),
        }
    }

    /// Whether an address is in both.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.v4.intersects(&other.v4) || self.v6.intersects(&other.v6)
    }

    /// The addresses in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self { v4: self.v4.intersection(&other.v4), v6: self.v6.intersection(&other.v6) }
    }

    /// The addresses in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    /// The addresses in this and not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self { v4: self.v4.minus(&other.v4), v6: self.v6.minus(&other.v6) }
    }

    /// The fewest prefixes that make it up, IPv4's first.
    #[must_use]
    pub fn prefixes(&self) -> Vec<IpNet> {
        let v4 = self.v4.as_slice().iter().flat_map(|(first, last)| {
            Ipv4Subnets::new(Ipv4Addr::from_bits(*first), Ipv4Addr::from_bits(*last), 0).map(IpNet::V4)
        });
        let v6 = self.v6.as_slice().iter().flat_map(|(first, last)| {
            Ipv6Subnets::new(Ipv6Addr::from_bits(*first), Ipv6Addr::from_bits(*last), 0).map(IpNet::V6)
        });
        v4.chain(v6).collect()
    }

    /// One address of it, IPv4 if there is one.
    #[must_use]
    pub fn first(&self) -> Option<IpAddr> {
        let v4 = self.v4.as_slice().first().map(|(first, _)| IpAddr::V4(Ipv4Addr::from_bits(*first)));
        v4.or_else(|| self.v6.as_slice().first().map(|(first, _)| IpAddr::V6(Ipv6Addr::from_bits(*first))))
    }
}

/// First and last address of a prefix.
#[must_use]
pub fn prefix_range(prefix: &IpNet) -> (IpAddr, IpAddr) {
    match prefix {
        IpNet::V4(net) => (net.network().into(), net.broadcast().into()),
        IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
    }
}

/// The fewest IPv6 prefixes that make up a closed range, as (first address, length).
#[must_use]
pub fn prefixes6(first: u128, last: u128) -> Vec<(u128, u8)> {
    let mut prefixes = Vec::new();
    let mut from = first;
    while from <= last {
        // The largest block that starts here: bounded by alignment and by what is left.
        let left = last - from;
        let size = from.trailing_zeros().min(left.checked_add(1).map_or(128, u128::ilog2));
        prefixes.push((from, 128 - size as u8));
        match from.checked_add(if size == 128 { 0 } else { 1 << size }) {
            Some(next) if size < 128 => from = next,
            _ => break,
        }
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_split_into_prefixes() {
        assert_eq!(prefixes6(0, u128::MAX), [(0, 0)]);
        assert_eq!(prefixes6(5, 5), [(5, 128)]);
        assert_eq!(prefixes6(1, 4), [(1, 128), (2, 127), (4, 128)]);
        assert_eq!(prefixes6(u128::MAX - 1, u128::MAX), [(u128::MAX - 1, 127)]);
        assert_eq!(prefixes6(1, u128::MAX).len(), 128);
    }
}
