//! Everybody who can be an end of a flow before or after a change, in groups that both
//! policies treat alike.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Side;
use super::ends::{End, range4, range6};
use crate::address::AddressSet;
use crate::analysis::equivalence::{Piece, Sweep};
use crate::bits::Bits;
use crate::frontend::inventory::Node;

/// An address as one side of the change sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Spot {
    /// Class of addresses.
    pub(super) class: u32,
    /// At whose ingress a packet to it is judged: the node that holds it, the routers that route
    /// it or the receivers of the group that it is. None: nobody enforces for it.
    pub(super) gates: Vec<Gate>,
}

/// A node at whose ingress packets are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Gate {
    /// Its index among the inventory's nodes; `u32::MAX` for one that nothing tells from others.
    pub(super) node: u32,
    /// When it is gone, ns since the Unix epoch.
    pub(super) end: Option<u64>,
    /// Whether what it leads to is gone with the last such gate. Not so the internet behind an exit.
    pub(super) narrow: bool,
    /// It receives a multicast group.
    pub(super) receives: bool,
}

impl Gate {
    fn is_open(&self, now: u64) -> bool {
        self.end.is_none_or(|end| now < end)
    }
}

impl Spot {
    /// The gates at a time; `None` if the address is gone with all of them.
    pub(super) fn gates(&self, now: u64) -> Option<impl Iterator<Item = Gate>> {
        let open = self.gates.iter().any(|gate| gate.is_open(now));
        let gone = !open && self.gates.iter().any(|gate| gate.narrow);
        (!gone).then(|| self.gates.iter().filter(move |gate| gate.is_open(now)).copied())
    }
}

/// What the members of a group have in common: whether IPv4, and the spots on both sides.
type Alike = (bool, [Option<Spot>; 2]);

/// A node, or a range of addresses that are nobody's, and the node's identity.
pub(super) type Member = (End, Option<usize>);

/// Ends that are treated alike on both sides.
pub(super) struct Group {
    pub(super) v4: bool,
    pub(super) spots: [Option<Spot>; 2],
    pub(super) members: Vec<Member>,
}

/// All groups, and the selectors of each class on each side.
pub(super) struct Universe {
    pub(super) groups: Vec<Group>,
    pub(super) members: Vec<[Bits; 2]>,
}

/// A node before and after.
type Pair<'a> = [Option<(u32, &'a Node)>; 2];

/// Nodes before and after, by WireGuard key, else by name where no two keys contradict it.
fn identities<'a>(sides: &[Side<'a>; 2]) -> Vec<Pair<'a>> {
    let [old, new] = sides.map(|side| side.inventory);
    let by_key: HashMap<[u8; 32], u32> = (0..)
        .zip(&new.nodes)
        .flat_map(|(index, node)| node.own_keys().map(move |key| (key, index)))
        .collect();
    let mut taken = HashSet::new();
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    for (index, node) in (0..).zip(&old.nodes) {
        let same_key = node.own_keys().find_map(|key| by_key.get(&key).copied());
        let same_name = new.index(&node.name).filter(|other| {
            let other = new.nodes[*other as usize].key;
            node.key.is_none() || other.is_none()
        });
        let partner = same_key.or(same_name).filter(|other| taken.insert(*other));
        pairs.push([Some((index, node)), partner.map(|other| (other, &new.nodes[other as usize]))]);
    }
    let rest = (0..).zip(&new.nodes).filter(|(index, _)| !taken.contains(index));
    pairs.extend(rest.map(|(index, node)| [None, Some((index, node))]));
    pairs
}

impl Universe {
    pub(super) fn new(sides: &[Side<'_>; 2], now: u64) -> Self {
        let alive = |node: &Node| node.expires.is_none_or(|end| now < end);
        // Sets: the selectors of both sides, then what each side holds, then what each router of
        // each side routes.
        let mut sets: Vec<AddressSet> = Vec::new();
        let mut starts = [0; 2];
        for (start, side) in starts.iter_mut().zip(sides) {
            *start = sets.len();
            // What only tests name cuts nothing.
            let blocks = side.ruleset.rules.iter().flat_map(|rule| &rule.blocks);
            let in_rules = blocks
                .flat_map(|block| block.sources.iter().chain(block.destinations.iter().map(|(id, _)| id)));
            let venues = side.ruleset.venues.iter().map(|venue| &venue.addresses);
            let boundaries = side.ruleset.boundaries.iter();
            let sides = boundaries.flat_map(|boundary| boundary.sides.iter().flatten());
            let named: HashSet<u32> = in_rules.chain(venues).chain(sides).map(|id| id.0).collect();
            sets.extend((0..).zip(&side.ruleset.selectors).map(|(id, selector)| match named.contains(&id) {
                true => selector.set.clone(),
                false => AddressSet::default(),
            }));
        }
        let held = sets.len();
        for side in sides {
            let nodes = side.inventory.nodes.iter();
            let network = side.ruleset.network;
            sets.push(AddressSet::from_addresses(nodes.flat_map(|n| n.addresses_on(network)).copied()));
        }
        let mut routers: Vec<(usize, Gate)> = Vec::new();
        let first_router = sets.len();
        for (number, side) in sides.iter().enumerate() {
            for (index, node) in (0..).zip(&side.inventory.nodes) {
                let mut add = |set: AddressSet, narrow, receives| {
                    if !set.is_empty() {
                        routers.push((number, Gate { node: index, end: node.expires, narrow, receives }));
                        sets.push(set);
                    }
                };
                let (narrow, exits): (Vec<IpNet>, Vec<IpNet>) =
                    node.routes_on(side.ruleset.network).iter().partition(|route| route.prefix_len() > 0);
                add(AddressSet::from_prefixes(&narrow), true, false);
                add(AddressSet::from_prefixes(&exits), false, false);
                if !side.ruleset.receivers.is_empty() {
                    add(side.ruleset.groups_of(node), true, true);
                }
            }
        }
        let mut sweep = Sweep::new(sets.len());
        let pieces4 = sweep.axis(sets.iter().map(|set| &set.v4).enumerate());
        let pieces6 = sweep.axis(sets.iter().map(|set| &set.v6).enumerate());
        let members = sweep.classes.iter().map(|class| {
            [0, 1].map(|side: usize| {
                let mut bits = Bits::new(sides[side].ruleset.selectors.len());
                let end = starts[side] + sides[side].ruleset.selectors.len();
                class
                    .iter()
                    .filter(|set| (starts[side]..end).contains(set))
                    .for_each(|set| bits.insert(set - starts[side]));
                bits
            })
        });
        let members = members.collect();
        let via = sides.map(|side| {
            let blocks = side.ruleset.rules.iter().flat_map(|rule| &rule.blocks);
            blocks.filter_map(|block| block.via).collect::<HashSet<u32>>()
        });
        // A node's index only where it makes a difference.
        let gate = |side: usize, gate: Gate| match gate.receives || via[side].contains(&gate.node) {
            true => gate,
            false => Gate { node: u32::MAX, ..gate },
        };
        // Where an address that no node holds is judged; `None` if it is gone with its routers.
        let outside = |side: usize, class: u32| {
            let sets = sweep.classes[class as usize].iter().filter(|set| *set >= first_router);
            let of = sets.map(|set| routers[set - first_router]).filter(|(of, _)| *of == side);
            let found: Vec<Gate> = of.map(|(_, found)| found).collect();
            // A receiver that also routes the group is one gate.
            let receives = |node| found.iter().any(|gate| gate.receives && gate.node == node);
            let gates = found.iter().filter(|found| found.receives || !receives(found.node));
            let mut gates: Vec<Gate> = gates.map(|found| gate(side, *found)).collect();
            gates.sort_unstable();
            gates.dedup();
            let spot = Spot { class, gates };
            let there = spot.gates(now).is_some();
            there.then_some(spot)
        };
        let mut groups: BTreeMap<Alike, Vec<Member>> = BTreeMap::new();
        let class_of = |address: IpAddr| match address {
            IpAddr::V4(v4) => find(&pieces4, v4.to_bits()),
            IpAddr::V6(v6) => find(&pieces6, v6.to_bits()),
        };
        for (identity, pair) in identities(sides).into_iter().enumerate() {
            for v4 in [true, false] {
                let addresses = [0, 1].map(|side: usize| {
                    let node = pair[side].filter(|(_, node)| alive(node));
                    let all =
                        node.map_or(&[][..], |(_, node)| node.addresses_on(sides[side].ruleset.network));
                    all.iter().copied().filter(|address| address.is_ipv4() == v4).collect::<Vec<_>>()
                });
                let several = addresses.iter().any(|list| list.len() > 1);
                for ends in matched(&addresses) {
                    let spots = [0, 1].map(|side: usize| {
                        let (index, _) = pair[side]?;
                        let class = class_of(ends[side]?)?;
                        let end = pair[side].and_then(|(_, node)| node.expires);
                        let own = Gate { node: index, end, narrow: true, receives: false };
                        Some(Spot { class, gates: vec![gate(side, own)] })
                    });
                    let name = pair[1].or(pair[0]).map_or("", |(_, node)| &node.name);
                    let address = ends[1].or(ends[0]).filter(|_| several);
                    let end = End::Node { name: name.to_string(), address, way: None };
                    groups.entry((v4, spots)).or_default().push((end, Some(identity)));
                }
            }
        }
        let mut nobodys = |v4: bool, class: u32, range: End| {
            let spots = [0, 1].map(|side: usize| {
                let held = sweep.classes[class as usize].contains(held + side);
                if held { None } else { outside(side, class) }
            });
            if spots.iter().any(Option::is_some) {
                groups.entry((v4, spots)).or_default().push((range, None));
            }
        };
        for piece in &pieces4 {
            nobodys(true, piece.class, range4(piece.first, piece.last));
        }
        for piece in &pieces6 {
            nobodys(false, piece.class, range6(piece.first, piece.last));
        }
        let groups = groups.into_iter().map(|((v4, spots), members)| Group { v4, spots, members });
        Self { groups: groups.collect(), members }
    }
}

fn find<T: Ord + Copy>(pieces: &[Piece<T>], point: T) -> Option<u32> {
    let after = pieces.partition_point(|piece| piece.first <= point);
    let piece = pieces[..after].last().filter(|piece| point <= piece.last)?;
    Some(piece.class)
}

/// A node's addresses before and after: what stayed with itself, the rest in order.
fn matched(addresses: &[Vec<IpAddr>; 2]) -> Vec<[Option<IpAddr>; 2]> {
    let [old, new] = addresses;
    let mut pairs: Vec<_> = old.iter().filter(|a| new.contains(a)).map(|a| [Some(*a), Some(*a)]).collect();
    let mut old = old.iter().filter(|a| !new.contains(a)).copied();
    let mut new = new.iter().filter(|a| !addresses[0].contains(a)).copied();
    loop {
        match [old.next(), new.next()] {
            [None, None] => return pairs,
            pair => pairs.push(pair),
        }
    }
}
