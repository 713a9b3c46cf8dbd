//! What a set of programs on cgroups is made for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_abi::{Address, CgroupSettings, WORKLOAD_ADDRESSES, from_ip};

use crate::KernelError;

/// The overlay addresses of one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadAddresses {
    /// `HOST/WORKLOAD`.
    pub name: String,
    /// Of each family the first is what its sockets get.
    pub addresses: Vec<IpAddr>,
}

/// What a set is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupSpecification {
    /// The workloads of this host.
    pub workloads: Vec<WorkloadAddresses>,
    /// The host's own overlay addresses.
    pub host: Vec<IpAddr>,
    /// Addresses that are a workload's in what is enforced now and none's in what comes: nobody may use them.
    pub former: Vec<IpAddr>,
    /// Prefixes of the overlay, address and length in bits.
    pub overlay: Vec<(IpAddr, u8)>,
    /// Options that lead around the programs on interfaces are refused to every process of the host, and not to
    /// workloads alone.
    pub refuse_bypass_to_all: bool,
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose<'a> {
    Nobody,
    Host,
    Workload(&'a str),
}

/// What is never of the overlay, whatever prefix holds it: loopback, link-local, multicast, broadcast, and the address
/// of no one, which the kernel takes for loopback.
const NEVER: [(IpAddr, u8); 8] = [
    (IpAddr::V4(Ipv4Addr::LOCALHOST), 8),
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 3),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

impl CgroupSpecification {
    /// Whether there is nothing to hold.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty() && self.former.is_empty()
    }

    /// The addresses that the table of holders has, and whose they are.
    pub(super) fn held(&self) -> BTreeMap<IpAddr, Whose<'_>> {
        let nobody = self.former.iter().map(|address| (*address, Whose::Nobody));
        let host = self.host.iter().map(|address| (*address, Whose::Host));
        let workloads = self.workloads.iter().flat_map(|workload| {
            workload.addresses.iter().map(|address| (*address, Whose::Workload(&workload.name)))
        });
        nobody.chain(host).chain(workloads).collect()
    }

    /// Prefixes with whether they are of the overlay, as keys of the table: bits and address.
    pub(super) fn prefixes(&self) -> Vec<(u32, Address, bool)> {
        let key = |(address, length): (IpAddr, u8), is_overlay: bool| {
            let before = if address.is_ipv4() { 96 } else { 0 };
            (before + u32::from(length), from_ip(address), is_overlay)
        };
        let overlay = self.overlay.iter().map(|prefix| key(*prefix, true));
        overlay.chain(NEVER.iter().map(|prefix| key(*prefix, false))).collect()
    }

    /// The globals of the host's programs, or with a workload of its own.
    ///
    /// # Errors
    /// If it has too many addresses.
    pub(super) fn settings(
        &self,
        netns: u64,
        tells_netns: bool,
        workload: Option<&WorkloadAddresses>,
    ) -> Result<CgroupSettings, KernelError> {
        let addresses = workload.map(|workload| &*workload.addresses).unwrap_or_default();
        let v4 = addresses.iter().filter(|address| address.is_ipv4()).map(|address| from_ip(*address)[3]);
        let v6 = addresses.iter().filter(|address| address.is_ipv6()).map(|address| from_ip(*address));
        let (v4, v6): (Vec<u32>, Vec<Address>) = (v4.collect(), v6.collect());
        if let Some(workload) = workload
            && v4.len().max(v6.len()) > WORKLOAD_ADDRESSES
        {
            return Err(KernelError::Refused {
                what: format!("workload {}", workload.name),
                source: format!(
                    "it has more than {WORKLOAD_ADDRESSES} addresses of one family; take some out of the inventory"
                )
                .into(),
            });
        }
        let held: Vec<IpAddr> = self.held().into_keys().collect();
        let [near4, near6] = [true, false].map(|v4| {
            common(held.iter().filter(|address| address.is_ipv4() == v4).map(|address| from_ip(*address)))
        });
        Ok(CgroupSettings {
            netns,
            tells_netns: tells_netns.into(),
            refuses_bypass: self.refuse_bypass_to_all.into(),
            own4: repeated(&v4, 0),
            own6: repeated(&v6, [0; 4]),
            near4: [near4[0][3], near4[1][3]],
            near6,
        })
    }
}

/// The values, and behind them the first again.
fn repeated<T: Copy>(values: &[T], none: T) -> [T; WORKLOAD_ADDRESSES] {
    let first = values.first().copied().unwrap_or(none);
    std::array::from_fn(|place| values.get(place).copied().unwrap_or(first))
}

/// The longest prefix, address and mask, that holds all of these; of none a mask of all ones over zeros.
fn common(addresses: impl Iterator<Item = Address>) -> [Address; 2] {
    let bits = |words: Address| u128::from_be_bytes(words_to_bytes(words));
    let mut addresses = addresses.map(bits);
    let Some(first) = addresses.next() else { return [[0; 4], [u32::MAX; 4]] };
    let differing = addresses.fold(0, |differing, address| differing | (address ^ first));
    let mask = u128::MAX.checked_shl(u128::BITS - differing.leading_zeros()).unwrap_or(0);
    [from_bits(first & mask), from_bits(mask)]
}

fn words_to_bytes(words: Address) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn from_bits(bits: u128) -> Address {
    let bytes = bits.to_be_bytes();
    std::array::from_fn(|word| {
        let at = 4 * word;
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use bulkhead_abi::from_ip;

    use super::{CgroupSpecification, Whose, WorkloadAddresses, common};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_near(addresses: &[&str], other: &str) -> bool {
        let [prefix, mask] = common(addresses.iter().map(|address| from_ip(ip(address))));
        (0..4).all(|word| from_ip(ip(other))[word] & mask[word] == prefix[word])
    }

    #[test]
    fn a_common_prefix_holds_all_and_little_else() {
        for (addresses, near, far) in [
            (&["100.64.9.1"][..], "100.64.9.1", "100.64.9.0"),
            (&["100.64.0.1", "100.64.9.1", "100.64.9.2"], "100.64.9.2", "127.0.0.1"),
            (&["fd7a::1", "fd7a::91"], "fd7a::1", "fd7a::1:1"),
            (&["1.2.3.4", "200.0.0.1"], "200.0.0.1", "::1"),
        ] {
            assert!(addresses.iter().all(|address| is_near(addresses, address)), "{addresses:?}");
            assert!(is_near(addresses, near) && !is_near(addresses, far), "{addresses:?} {far}");
        }
        assert!(!is_near(&[], "100.64.9.1") && !is_near(&[], "fd7a::1"));
    }

    #[test]
    fn settings_have_each_workloads_own_addresses() {
        let workload = |name: &str, addresses: &[&str]| WorkloadAddresses {
            name: name.to_owned(),
            addresses: addresses.iter().map(|address| ip(address)).collect(),
        };
        let specification = CgroupSpecification {
            workloads: vec![workload("h/a", &["100.64.9.1", "fd7a::91"]), workload("h/b", &["100.64.9.2"])],
            host: vec![ip("100.64.0.1")],
            ..CgroupSpecification::default()
        };
        let settings = specification.settings(7, true, Some(&specification.workloads[1])).unwrap();
        assert_eq!(settings.own4, [from_ip(ip("100.64.9.2"))[3]; 8]);
        assert_eq!((settings.own6, settings.netns), ([[0; 4]; 8], 7));
        let held = specification.held();
        assert_eq!(held[&ip("100.64.9.2")], Whose::Workload("h/b"));
        assert_eq!((held[&ip("100.64.0.1")], held.len()), (Whose::Host, 4));
        let many: Vec<String> = (0..9).map(|place| format!("100.64.9.{place}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = specification.settings(7, true, Some(&workload("h/c", &many))).unwrap_err();
        assert!(error.to_string().contains("h/c"), "{error}");
    }

    #[test]
    fn loopback_is_never_of_the_overlay() {
        let specification =
            CgroupSpecification { overlay: vec![(ip("0.0.0.0"), 0)], ..CgroupSpecification::default() };
        let keys = specification.prefixes();
        assert!(keys.contains(&(96, from_ip(ip("0.0.0.0")), true)), "{keys:?}");
        assert!(keys.contains(&(104, from_ip(ip("127.0.0.1")), false)), "{keys:?}");
    }
}
