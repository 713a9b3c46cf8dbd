//! Addresses: the IPv4 trie, the host table, IPv6 prefixes and routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use bulkhead_abi::{BLOCK_SLOTS, Direction, Leaf, LpmKey, Reason, TRIE_ROOT_BLOCKS, Workload, to_ip};
use bulkhead_engine::host_table::Buckets as _;

use super::names::{Names, leaf};
use super::{Comparison, Difference, Sides, changed, ends, ports};
use crate::analysis::reference::Probe;
use crate::backend::evaluate::evaluate;

/// Changed entries of the trie whose addresses are all looked up; what is beyond is a difference unseen.
const LOOKED_AT: usize = 4096;
/// Ends at the other side, and ports, that an address is tried with.
const TRIED: usize = 64;

/// Each block that a trie leads to, from the root on: its first address, and how many bits lie behind one of its
/// slots.
pub(super) fn blocks(trie: &[[Leaf; BLOCK_SLOTS]]) -> Vec<(u32, u32, u32)> {
    let mut all: Vec<_> = (0..TRIE_ROOT_BLOCKS).map(|block| (block, block << 24, 16)).collect();
    for (width, range) in [(8, 0..TRIE_ROOT_BLOCKS as usize), (0, TRIE_ROOT_BLOCKS as usize..usize::MAX)] {
        let level: Vec<_> = all.get(range.start..all.len().min(range.end)).unwrap_or_default().to_vec();
        for (block, base, above) in level {
            let Some(entries) = trie.get(block as usize) else { continue };
            for (slot, entry) in (0..BLOCK_SLOTS as u32).zip(entries) {
                all.extend(entry.as_block().map(|next| (next, base + (slot << above), width)));
            }
        }
    }
    all.retain(|(block, ..)| (*block as usize) < trie.len());
    all
}

/// Compares them and tells of the first `most` differences.
pub(super) fn compare(sides: &Sides, names: &Names, most: usize, out: &mut Comparison) {
    let mut told = Told { sides, names, most, out, addresses: BTreeSet::new() };
    let must_compare_hosts = told.trie();
    told.hosts(must_compare_hosts);
    let (expected, held) = (sides.expected.tables, sides.held.tables);
    told.workloads(&expected.workloads, &held.workloads);
    told.prefixes("PREFIX6", &expected.prefixes6, &held.prefixes6, |leaf| Names::leaf(Ok(*leaf)));
    told.prefixes("ROUTES", &expected.routes, &held.routes, |routed| {
        format!("behind group {}, speaking for group {}", routed.behind, routed.speaks_for)
    });
}

struct Told<'a, 'b> {
    sides: &'a Sides<'b>,
    names: &'a Names<'b>,
    most: usize,
    out: &'a mut Comparison,
    addresses: BTreeSet<IpAddr>,
}

impl Told<'_, '_> {
    fn leaves(&self, address: IpAddr) -> (Result<Leaf, Reason>, Result<Leaf, Reason>) {
        (leaf(&self.sides.expected, address), leaf(&self.sides.held, address))
    }

    fn tell(&mut self, difference: Difference) {
        if self.out.differences.len() < self.most {
            self.out.differences.push(difference);
        } else {
            self.out.omitted += 1;
        }
    }

    /// The trie. Whether addresses in the host table may be found otherwise.
    fn trie(&mut self) -> bool {
        let (expected, held) = (&self.sides.expected.tables.trie, &self.sides.held.tables.trie);
        let changed = changed(expected.as_flattened(), held.as_flattened());
        if changed.is_empty() {
            return false;
        }
        let mut places: BTreeMap<u32, BTreeSet<(u32, u32)>> = BTreeMap::new();
        for (block, base, width) in blocks(expected).into_iter().chain(blocks(held)) {
            places.entry(block).or_default().insert((base, width));
        }
        let mut must_compare_hosts = false;
        let at = |trie: &[[Leaf; BLOCK_SLOTS]], entry: u32| trie.as_flattened().get(entry as usize).copied();
        for (seen, entry) in changed.into_iter().enumerate() {
            if seen >= LOOKED_AT {
                self.out.omitted += 1;
                continue;
            }
            let around = |entry: Leaf| entry.as_host_table().or(entry.is_leaf().then_some(entry));
            let around = [at(expected, entry), at(held, entry)].map(|entry| entry.and_then(around));
            if around[0].is_some() && around[0] == around[1] {
                // Who lies in the host table is sent there, or not any more; the others are what they were.
                must_compare_hosts = true;
                continue;
            }
            let slot = entry % BLOCK_SLOTS as u32;
            let places = places.get(&(entry / BLOCK_SLOTS as u32)).into_iter().flatten();
            let mut found = None;
            let mut count = 0u64;
            for (base, width) in places {
                let first = base + (slot << width);
                for bits in first..=first + ((1 << width) - 1) {
                    let address = IpAddr::from(Ipv4Addr::from_bits(bits));
                    let (should, is) = self.leaves(address);
                    if should != is {
                        found = found.or(Some(address));
                        count += 1;
                        if *width == 0 {
                            self.addresses.insert(address);
                        }
                    }
                }
            }
            match found {
                Some(address) => {
                    let difference = self.of_address("TRIE4", entry.to_string(), address, count - 1);
                    self.tell(difference);
                }
                None => self.out.meaningless += 1,
            }
        }
        must_compare_hosts
    }

    fn hosts(&mut self, must_compare: bool) {
        let (expected, held) = (&self.sides.expected.tables.hosts, &self.sides.held.tables.hosts);
        let changed = changed(expected.buckets(), held.buckets()).len() as u64;
        if changed == 0 && !must_compare {
            return;
        }
        let all: BTreeSet<IpAddr> =
            expected.iter().chain(held.iter()).map(|(address, _)| to_ip(&address)).collect();
        let mut differ = 0;
        for address in all {
            let (should, is) = self.leaves(address);
            if should == is {
                continue;
            }
            differ += 1;
            if self.addresses.insert(address) {
                let difference = self.of_address("HOST_TABLE", address.to_string(), address, 0);
                self.tell(difference);
            }
        }
        // Addresses that came in another order lie in other places; who is found is the same.
        if differ == 0 && expected.count() == held.count() {
            self.out.meaningless += changed;
        }
    }

    /// Whose local classes are; which cgroups that is just now is not compared.
    fn workloads(&mut self, expected: &[Workload], held: &[Workload]) {
        let words = |of: Option<&Workload>| match of {
            None => "no entry".to_owned(),
            Some(workload) if workload.is_some() => format!("workload {}", workload.number),
            Some(_) => "no workload".to_owned(),
        };
        for class in changed(expected, held) {
            let (should, is) = (expected.get(class as usize), held.get(class as usize));
            if !expected.iter().any(|workload| workload.is_some()) {
                // No program of a node without any looks there.
                self.out.meaningless += 1;
                continue;
            }
            self.tell(Difference {
                table: "WORKLOADS".to_owned(),
                entry: class.to_string(),
                direction: None,
                source: Some(self.names.local(class)),
                destination: None,
                port: None,
                others: 0,
                expected: words(should),
                found: words(is),
            });
        }
    }

    fn prefixes<T: PartialEq>(
        &mut self,
        table: &'static str,
        expected: &[(LpmKey, T)],
        held: &[(LpmKey, T)],
        text: impl Fn(&T) -> String,
    ) {
        if expected == held {
            return;
        }
        let key = |key: &LpmKey| (key.prefix, key.address);
        let of = |entries: &'_ [(LpmKey, T)]| -> BTreeMap<(u32, [u32; 4]), usize> {
            entries.iter().enumerate().map(|(at, (prefix, _))| (key(prefix), at)).collect()
        };
        let (should, is) = (of(expected), of(held));
        let all: BTreeSet<_> = should.keys().chain(is.keys()).copied().collect();
        for prefix in all {
            let should = should.get(&prefix).map(|at| &expected[*at].1);
            let is = is.get(&prefix).map(|at| &held[*at].1);
            if should == is {
                continue;
            }
            if expected.is_empty() {
                // No program of a policy without any looks there.
                self.out.meaningless += 1;
                continue;
            }
            let (length, address) = prefix;
            let entry = match to_ip(&address) {
                IpAddr::V4(v4) if length >= 96 => format!("{v4}/{}", length - 96),
                address => format!("{address}/{length}"),
            };
            let words = |value: Option<&T>| value.map_or_else(|| "no entry".to_owned(), &text);
            self.tell(Difference {
                table: table.to_owned(),
                source: Some(entry.clone()),
                entry,
                direction: None,
                destination: None,
                port: None,
                others: 0,
                expected: words(should),
                found: words(is),
            });
        }
    }

    /// An address whose leaf is another: by the first packet of its that is judged otherwise.
    fn of_address(&self, table: &'static str, entry: String, address: IpAddr, others: u64) -> Difference {
        let (should, is) = self.leaves(address);
        let is_local = [&should, &is].iter().any(|leaf| leaf.is_ok_and(|leaf| leaf.local() != 0));
        let mut difference = Difference {
            table: table.to_owned(),
            entry,
            direction: None,
            source: Some(self.names.address(address)),
            destination: None,
            port: None,
            others,
            expected: Names::leaf(should),
            found: Names::leaf(is),
        };
        let Some((direction, other, point, expected, found)) = self.first_packet(address, is_local) else {
            return difference;
        };
        let (local, remote) = if is_local { (address, other) } else { (other, address) };
        let (source, destination) = ends(direction, local, remote);
        difference.direction = Some(direction.name().to_owned());
        difference.source = Some(self.names.address(source));
        difference.destination = Some(self.names.address(destination));
        difference.port = Some(ports::text(&[point]));
        (difference.expected, difference.found) = (expected, found);
        difference
    }

    fn first_packet(
        &self,
        address: IpAddr,
        is_local: bool,
    ) -> Option<(Direction, IpAddr, u32, String, String)> {
        let table = self.sides.expected.tables.ports.as_flattened();
        let mut classes = BTreeSet::new();
        let points = ports::points().filter(|point| classes.insert(table.get(*point as usize)));
        let points: Vec<u32> = points.take(TRIED).collect();
        let others = self.names.of_each(!is_local);
        let others: Vec<IpAddr> = others
            .filter(|other| other.is_ipv4() == address.is_ipv4() && *other != address)
            .take(TRIED)
            .collect();
        for direction in [Direction::Ingress, Direction::Egress] {
            for (other, point) in
                others.iter().flat_map(|other| points.iter().map(move |point| (other, *point)))
            {
                let (local, remote) = if is_local { (address, *other) } else { (*other, address) };
                let (source, destination) = ends(direction, local, remote);
                let (protocol, port) = ports::protocol_of(point)?;
                let probe = Probe { source, destination, protocol, port };
                let should = evaluate(&self.sides.expected, direction, &probe);
                let is = evaluate(&self.sides.held, direction, &probe);
                if should != is {
                    let [expected, found] =
                        [should, is].map(|side| self.names.reason(side.reason, side.rule));
                    return Some((direction, *other, point, expected, found));
                }
            }
        }
        None
    }
}
