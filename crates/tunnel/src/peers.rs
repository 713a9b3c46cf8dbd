//! The peers and cryptokey routing: which peer an address belongs to, both ways.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use boringtun::noise::Tunn;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519::{PublicKey, StaticSecret};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use super::config;
use super::throttle::Throttle;

/// How often a complaint about one peer is repeated.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(5);

/// One peer.
pub struct Peer {
    /// Its public key.
    pub key: [u8; 32],
    /// The start of it, for logs.
    pub name: String,
    /// Seconds; 0 is off.
    pub keepalive: u16,
    pub complaints: Throttle,
    state: Mutex<State>,
}

/// What changes about a peer.
pub struct State {
    pub tunn: Tunn,
    /// Where it was last heard from, or is said to be.
    pub endpoint: Option<SocketAddr>,
    /// Whether a handshake has completed and not yet expired.
    pub up: bool,
    /// Handshake initiations sent since the last that completed.
    pub attempts: u32,
}

impl Peer {
    /// The peer's state. A panic while it was held ends the tunnel anyway.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All peers, found by key, by receiver index and by address.
pub struct Peers {
    all: Vec<Peer>,
    by_key: HashMap<[u8; 32], usize>,
    routes: RwLock<Routes>,
}

/// Whose a prefix is.
#[derive(Default)]
struct Routes {
    v4: PrefixMap<Ipv4Net, usize>,
    v6: PrefixMap<Ipv6Net, usize>,
}

impl Routes {
    fn give(&mut self, prefix: IpNet, index: usize) {
        match prefix {
            IpNet::V4(prefix) => self.v4.insert(prefix, index),
            IpNet::V6(prefix) => self.v6.insert(prefix, index),
        };
    }
}

impl Peers {
    /// `endpoints` are the resolved ones, in the order of `peers`.
    pub fn new(
        secret: &StaticSecret,
        limiter: &Arc<RateLimiter>,
        peers: &[config::Peer],
        endpoints: &[Option<SocketAddr>],
    ) -> Peers {
        let mut result =
            Peers { all: Vec::with_capacity(peers.len()), by_key: HashMap::new(), routes: RwLock::default() };
        let mut routes = Routes::default();
        for (index, (peer, endpoint)) in peers.iter().zip(endpoints).enumerate() {
            for prefix in &peer.allowed {
                routes.give(*prefix, index);
            }
            result.by_key.insert(peer.public_key, index);
            let tunn = Tunn::new(
                secret.clone(),
                PublicKey::from(peer.public_key),
                peer.preshared_key.as_ref().map(|key| key.0),
                (peer.keepalive != 0).then_some(peer.keepalive),
                u32::try_from(index).unwrap_or(u32::MAX),
                Some(Arc::clone(limiter)),
            );
            result.all.push(Peer {
                key: peer.public_key,
                name: short(&peer.public_key),
                keepalive: peer.keepalive,
                complaints: Throttle::new(COMPLAINT_PERIOD),
                state: Mutex::new(State { tunn, endpoint: *endpoint, up: false, attempts: 0 }),
            });
        }
        result.routes = RwLock::new(routes);
        result
    }

    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.all.iter()
    }

    pub fn by_key(&self, key: &[u8; 32]) -> Option<&Peer> {
        self.all.get(self.index_of(key)?)
    }

    /// Its place in the order of [`Self::iter`].
    pub fn index_of(&self, key: &[u8; 32]) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// The prefixes of each, in the order of [`Self::iter`], of one moment.
    pub fn allowed(&self) -> Vec<Vec<IpNet>> {
        let mut allowed = vec![Vec::new(); self.all.len()];
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.v4.iter().for_each(|(prefix, index)| allowed[*index].push(IpNet::V4(prefix)));
        routes.v6.iter().for_each(|(prefix, index)| allowed[*index].push(IpNet::V6(prefix)));
        allowed
    }

    /// Gives prefixes to peers, by their places, all at one moment; with `true` a peer loses the others that it has.
    pub fn set_allowed(&self, changes: &[(usize, bool, Vec<IpNet>)]) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        for (index, is_all, allowed) in changes {
            if *is_all {
                routes.v4.retain(|_, of| of != index);
                routes.v6.retain(|_, of| of != index);
            }
            allowed.iter().for_each(|prefix| routes.give(*prefix, *index));
        }
    }

    /// By the receiver index of a message: the tunnel's number above the session's 8 bits.
    pub fn by_receiver(&self, receiver: u32) -> Option<&Peer> {
        self.all.get(usize::try_from(receiver >> 8).ok()?)
    }

    /// The one peer that may send from this address and is sent what goes to it: the longest prefix decides.
    pub fn by_address(&self, address: IpAddr) -> Option<&Peer> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let index = *match address {
            IpAddr::V4(address) => routes.v4.get_lpm(&Ipv4Net::from(address))?.1,
            IpAddr::V6(address) => routes.v6.get_lpm(&Ipv6Net::from(address))?.1,
        };
        self.all.get(index)
    }
}

/// A key as logs show it.
pub fn short(key: &[u8; 32]) -> String {
    let mut text = base64::engine::general_purpose::STANDARD.encode(key);
    text.truncate(10);
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let peer = |byte: u8, allowed: &[&str]| config::Peer {
            public_key: [byte; 32],
            preshared_key: None,
            allowed: allowed.iter().map(|text| text.parse().unwrap()).collect(),
            endpoint: None,
            keepalive: 0,
            line: 1,
        };
        let secret = StaticSecret::from([9; 32]);
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(&secret), 10));
        let configured =
            [peer(1, &["10.0.0.0/8", "fd7a::/16"]), peer(2, &["10.1.0.0/16", "fd7a::2/128"]), peer(3, &[])];
        let peers = Peers::new(&secret, &limiter, &configured, &[None; 3]);
        let owner = |text: &str| peers.by_address(text.parse().unwrap()).map(|peer| peer.name.clone());
        let name = |byte| Some(short(&[byte; 32]));
        assert_eq!(owner("10.2.0.1"), name(1));
        assert_eq!(owner("10.1.0.1"), name(2));
        assert_eq!(owner("fd7a::1"), name(1));
        assert_eq!(owner("fd7a::2"), name(2));
        assert_eq!(owner("192.0.2.1"), None);
        assert_eq!(owner("2001:db8::1"), None);
        assert_eq!(peers.by_key(&[3; 32]).map(|peer| peer.name.clone()), name(3));
        assert_eq!(peers.by_receiver(0x0000_01ff).map(|peer| peer.name.clone()), name(2));
        assert!(peers.by_receiver(0x0000_03ff).is_none());
    }
}
