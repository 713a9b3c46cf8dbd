//! What was read of the managed interfaces' peers. What cannot be read any more stays as it was.

use std::collections::HashMap;
use std::sync::Arc;

use bulkhead_peers::{Found, Key, Peer, PeersError, Routes, Source, find};

/// One interface's cryptokey routing.
#[derive(Debug, Default)]
pub struct Routing {
    peers: Vec<(Key, Vec<ipnet::IpNet>)>,
    /// Which key an address is of.
    pub routes: Routes,
}

/// One interface, as it was found last.
#[derive(Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Who says what its peers are.
    pub source: Option<Source>,
    /// It is there, and nobody says what its peers are.
    pub is_unproven: bool,
    /// What was read last.
    pub routing: Arc<Routing>,
    /// When each key's last handshake completed, in seconds since the Unix epoch.
    pub handshakes: HashMap<Key, u64>,
    /// Why it could not be read now.
    pub problem: Option<String>,
}

/// All managed interfaces of overlays.
#[derive(Debug, Default)]
pub struct Seen {
    /// Each of them.
    pub interfaces: Vec<Interface>,
}

/// What an address is judged by: who routes what, and whether all of it is known.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// By interface.
    pub routing: Vec<(String, Arc<Routing>)>,
    /// Some interface's peers are told by nobody: an address that no other one routes may be there.
    pub has_unproven: bool,
}

impl Evidence {
    /// Whether both come from the same looks.
    pub fn is_same(&self, other: &Self) -> bool {
        self.has_unproven == other.has_unproven
            && self.routing.len() == other.routing.len()
            && self
                .routing
                .iter()
                .zip(&other.routing)
                .all(|(one, two)| one.0 == two.0 && Arc::ptr_eq(&one.1, &two.1))
    }
}

impl Routing {
    /// Of peers, sorted by key.
    pub fn of(peers: Vec<Peer>) -> Self {
        let routes = Routes::new(&peers);
        Self { peers: peers.into_iter().map(|peer| (peer.key, peer.allowed)).collect(), routes }
    }
}

impl Seen {
    /// Of these interfaces nothing is known yet.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let unknown = |name: &str| Interface {
            name: name.to_owned(),
            source: None,
            is_unproven: false,
            routing: Arc::default(),
            handshakes: HashMap::new(),
            problem: None,
        };
        Self { interfaces: names.map(unknown).collect() }
    }

    /// Looks at each.
    pub fn look(&mut self) {
        self.interfaces.iter_mut().for_each(|interface| {
            let found = find(&interface.name);
            interface.take(found, |source, name| source.peers(name));
        });
    }

    /// What addresses are judged by now.
    pub fn evidence(&self) -> Evidence {
        let routing = self.interfaces.iter().map(|of| (of.name.clone(), of.routing.clone()));
        Evidence { routing: routing.collect(), has_unproven: self.interfaces.iter().any(|of| of.is_unproven) }
    }
}

impl Interface {
    fn take(
        &mut self,
        found: Result<Found, PeersError>,
        ask: impl FnOnce(&Source, &str) -> Result<Vec<Peer>, PeersError>,
    ) {
        self.problem = None;
        let asked = match found {
            // Its peers are gone with it; they are the same when it comes back, or others are read then.
            Ok(Found::Absent) => return,
            Ok(Found::Nobody) if self.source.is_none() => {
                self.is_unproven = true;
                return;
            }
            Ok(Found::Nobody) => {
                self.problem = Some("nobody tells of them any more".to_owned());
                return;
            }
            Ok(Found::Source(source)) => {
                let asked = ask(&source, &self.name);
                (self.source, self.is_unproven) = (Some(source), false);
                asked
            }
            Err(error) => Err(error),
        };
        match asked {
            Ok(peers) => self.read(peers),
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    fn read(&mut self, mut peers: Vec<Peer>) {
        // Sources have no order that lasts.
        peers.sort_unstable_by_key(|peer| peer.key);
        self.handshakes = peers.iter().filter_map(|peer| Some((peer.key, peer.handshake?))).collect();
        let known = &self.routing.peers;
        let is_same = known.len() == peers.len()
            && known.iter().zip(&peers).all(|(known, peer)| known.0 == peer.key && known.1 == peer.allowed);
        if !is_same {
            self.routing = Arc::new(Routing::of(peers));
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_peers::uapi::Place;

    use super::*;

    fn peers(key: u8) -> Vec<Peer> {
        vec![Peer {
            key: Key([key; 32]),
            allowed: vec!["10.0.0.1/32".parse().unwrap()],
            handshake: Some(key.into()),
        }]
    }

    fn uapi() -> Result<Found, PeersError> {
        Ok(Found::Source(Source::Uapi(Place::of("wg0"))))
    }

    fn refused() -> Result<Vec<Peer>, PeersError> {
        Err(PeersError::NotRoot("it".to_owned()))
    }

    #[test]
    fn what_cannot_be_read_any_more_stays() {
        let mut seen = Seen::new(["wg0"].into_iter());
        let mut take = |found, peers: Result<Vec<Peer>, PeersError>| {
            seen.interfaces[0].take(found, |_, _| peers);
            (seen.evidence(), seen.interfaces[0].problem.is_some())
        };
        let (first, problem) = take(uapi(), Ok(peers(1)));
        assert!(!problem);
        let (same, _) = take(uapi(), Ok(peers(1)));
        assert!(same.is_same(&first), "nothing was made anew");
        for (found, has_problem) in [
            (uapi(), true),
            (Ok(Found::Nobody), true),
            (Ok(Found::Absent), false),
            (Err(PeersError::NotRoot("it".to_owned())), true),
        ] {
            let (now, problem) = take(found, refused());
            assert!(now.is_same(&first) && !now.has_unproven);
            assert_eq!(problem, has_problem);
        }
        let (other, problem) = take(uapi(), Ok(peers(2)));
        assert!(!other.is_same(&first) && !problem);
        assert_eq!(other.routing[0].1.routes.of("10.0.0.1".parse().unwrap()), [Key([2; 32])]);
    }

    #[test]
    fn an_interface_is_unproven_until_somebody_tells() {
        let mut seen = Seen::new(["wg0"].into_iter());
        assert!(!seen.evidence().has_unproven, "what is not there carries nothing");
        seen.interfaces[0].take(Ok(Found::Nobody), |_, _| refused());
        assert!(seen.evidence().has_unproven);
        seen.interfaces[0].take(uapi(), |_, _| refused());
        assert!(
            !seen.evidence().has_unproven,
            "there is somebody to ask, who says nothing: nobody is routed"
        );
    }
}
