//! Whether an address is routed by the keys of the identity that has it: a pure function.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::{Key, Peer};

/// Cryptokey routing of one interface: which peers an address is of.
#[derive(Debug, Default)]
pub struct Routes {
    v4: PrefixMap<Ipv4Net, Vec<Key>>,
    v6: PrefixMap<Ipv6Net, Vec<Key>>,
}

impl Routes {
    /// Of an interface's peers.
    #[must_use]
    pub fn new(peers: &[Peer]) -> Self {
        let mut routes = Self::default();
        for peer in peers {
            for prefix in &peer.allowed {
                let keys = match prefix {
                    IpNet::V4(prefix) => routes.v4.entry(*prefix).or_default(),
                    IpNet::V6(prefix) => routes.v6.entry(*prefix).or_default(),
                };
                if !keys.contains(&peer.key) {
                    keys.push(peer.key);
                }
            }
        }
        routes
    }

    /// Whose an address is, by the longest prefix. WireGuard has one peer for a prefix; a list that has several is
    /// taken at its word.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> &[Key] {
        match address {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Net::from(address)).map(|(_, keys)| &keys[..]),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Net::from(address)).map(|(_, keys)| &keys[..]),
        }
        .unwrap_or_default()
    }
}

/// What is found of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement<I> {
    /// It is routed by one of the identity's keys, and by nobody else's: by this one, on this interface.
    Bound(Key, I),
    /// Somebody else's key routes it: that one, on this interface.
    Conflicting(Key, I),
    /// Nobody routes it.
    Unbound,
}

/// Judges one address of an identity with these keys. Each interface takes a source from the peer that its own
/// longest prefix names, whatever another one routes, so each is asked for itself.
pub fn judge<'a, I: Copy + 'a>(
    own: impl Iterator<Item = Key> + Clone,
    address: IpAddr,
    interfaces: impl IntoIterator<Item = (I, &'a Routes)>,
) -> Judgement<I> {
    let mut judgement = Judgement::Unbound;
    for (interface, routes) in interfaces {
        for key in routes.of(address) {
            if !own.clone().any(|own| own == *key) {
                return Judgement::Conflicting(*key, interface);
            }
            judgement = Judgement::Bound(*key, interface);
        }
    }
    judgement
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(key: u8, allowed: &[&str]) -> Peer {
        let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
        Peer { key: Key([key; 32]), allowed, handshake: None }
    }

    fn judged(own: &[u8], address: &str, interfaces: &[&[Peer]]) -> Judgement<usize> {
        let routes: Vec<_> = interfaces.iter().map(|peers| Routes::new(peers)).collect();
        judge(own.iter().map(|key| Key([*key; 32])), address.parse().unwrap(), routes.iter().enumerate())
    }

    #[test]
    fn own_keys_bind_and_another_conflicts() {
        let peers = [peer(1, &["10.0.0.1/32", "fd00::1/128"]), peer(2, &["10.0.0.0/8"]), peer(3, &[])];
        assert_eq!(judged(&[1], "10.0.0.1", &[&peers]), Judgement::Bound(Key([1; 32]), 0));
        assert_eq!(judged(&[3, 1], "fd00::1", &[&peers]), Judgement::Bound(Key([1; 32]), 0));
        assert_eq!(judged(&[1], "10.0.0.2", &[&peers]), Judgement::Conflicting(Key([2; 32]), 0));
        assert_eq!(judged(&[3], "10.0.0.1", &[&peers]), Judgement::Conflicting(Key([1; 32]), 0));
        assert_eq!(judged(&[1], "fd00::2", &[&peers]), Judgement::Unbound);
        assert_eq!(judged(&[1], "10.0.0.1", &[]), Judgement::Unbound);
    }

    #[test]
    fn each_interface_is_asked_for_itself() {
        let (right, wide) = ([peer(1, &["10.0.0.1/32"])], [peer(2, &["0.0.0.0/0"])]);
        assert_eq!(judged(&[1], "10.0.0.1", &[&right, &wide]), Judgement::Conflicting(Key([2; 32]), 1));
        assert_eq!(judged(&[1, 2], "10.0.0.1", &[&right, &wide]), Judgement::Bound(Key([2; 32]), 1));
    }

    /// Every peer of every interface, one after the other.
    fn naive(own: &[Key], address: IpAddr, interfaces: &[Vec<Peer>]) -> Judgement<usize> {
        let mut judgement = Judgement::Unbound;
        for (on, peers) in interfaces.iter().enumerate() {
            let holds = |peer: &Peer, length: u8| {
                peer.allowed.iter().any(|net| net.prefix_len() == length && net.contains(&address))
            };
            let longest = (0..=128).rev().find(|length| peers.iter().any(|peer| holds(peer, *length)));
            for peer in peers.iter().filter(|peer| longest.is_some_and(|length| holds(peer, length))) {
                if !own.contains(&peer.key) {
                    return Judgement::Conflicting(peer.key, on);
                }
                judgement = Judgement::Bound(peer.key, on);
            }
        }
        judgement
    }

    /// Few addresses and keys, so that they meet.
    fn peers() -> impl Strategy<Value = Vec<Peer>> {
        let prefix = (any::<bool>(), 0u8..4, 0u8..=8).prop_map(|(is_v4, last, cut)| {
            let text = if is_v4 {
                format!("10.0.0.{last}/{}", 32 - cut)
            } else {
                format!("fd00::{last}/{}", 128 - cut)
            };
            text.parse::<IpNet>().unwrap().trunc()
        });
        let peer = (0u8..4, proptest::collection::vec(prefix, 0..4)).prop_map(|(key, allowed)| Peer {
            key: Key([key; 32]),
            allowed,
            handshake: None,
        });
        proptest::collection::vec(peer, 0..5)
    }

    proptest! {
        #[test]
        fn it_is_what_looking_at_every_prefix_says(
            interfaces in proptest::collection::vec(peers(), 0..3),
            own in proptest::collection::vec((0u8..4).prop_map(|key| Key([key; 32])), 0..3),
            is_v4 in any::<bool>(),
            last in 0u8..4,
        ) {
            let text = if is_v4 { format!("10.0.0.{last}") } else { format!("fd00::{last}") };
            let address = text.parse().unwrap();
            let routes: Vec<_> = interfaces.iter().map(|peers| Routes::new(peers)).collect();
            let found = judge(own.iter().copied(), address, routes.iter().enumerate());
            let expected = naive(&own, address, &interfaces);
            // Which of several keys is named depends on their order alone.
            prop_assert_eq!(found, expected);
        }
    }
}
