//! From datagram to packet and back, without I/O: boringtun's `Tunn` for each peer, plus what it leaves to its
//! caller: finding the peer, roaming, refusing sources that are not the peer's, and saying what goes wrong.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use tracing::{debug, info, warn};

use super::config;
use super::peers::{Peer, Peers, State, short};
use super::throttle::Throttle;

/// Handshake messages a second before the sender must prove its address with a cookie. An initiation is counted
/// twice: before its key is looked up, so that a flood costs us no Diffie-Hellman, and by the peer's `Tunn`.
const HANDSHAKES_PER_SECOND: u64 = 2 * 100;

/// How often a complaint that belongs to no peer is repeated.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(5);

/// Unanswered initiations before we say so; they are about 5 s apart.
const ATTEMPTS_BEFORE_WARNING: u32 = 2;

/// What a datagram or a packet turned into.
#[derive(Debug)]
pub enum Outcome<'a> {
    Nothing,
    /// For the underlay.
    Send(&'a [u8], SocketAddr),
    /// For the interface.
    Deliver(&'a [u8]),
}

/// Our key and our peers.
pub struct Crypt {
    secret: StaticSecret,
    public: PublicKey,
    limiter: Arc<RateLimiter>,
    peers: Arc<Peers>,
    complaints: Throttle,
}

/// Warns once per period and kind: `complain!(throttle, "kind", fields…, "message")`.
macro_rules! complain {
    ($throttle:expr, $kind:literal, $($rest:tt)+) => {
        if let Some(unsaid) = $throttle.pass($kind, Instant::now()) {
            warn!(unsaid, $($rest)+);
        }
    };
}
pub(super) use complain;

impl Crypt {
    /// `endpoints` are the peers' resolved ones, in order.
    pub fn new(config: &config::Config, endpoints: &[Option<SocketAddr>]) -> Crypt {
        let secret = StaticSecret::from(config.interface.private_key.0);
        let public = PublicKey::from(&secret);
        let limiter = Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND));
        let peers = Arc::new(Peers::new(&secret, &limiter, &config.peers, endpoints));
        Crypt { secret, public, limiter, peers, complaints: Throttle::new(COMPLAINT_PERIOD) }
    }

    /// The peers, for whoever asks about them meanwhile.
    pub fn shared_peers(&self) -> Arc<Peers> {
        Arc::clone(&self.peers)
    }

    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter()
    }

    /// A packet from the interface, to be sealed for the peer it goes to.
    pub fn outbound<'a>(&self, packet: &[u8], out: &'a mut [u8]) -> Outcome<'a> {
        let Some(destination) = Tunn::dst_address(packet) else { return Outcome::Nothing };
        let Some(peer) = self.peers.by_address(destination) else {
            // Neighbours' multicast and the like end here; it is no fault of a peer.
            debug!(%destination, "no peer is allowed this address");
            return Outcome::Nothing;
        };
        let mut state = peer.state();
        let Some(endpoint) = state.endpoint else {
            complain!(
                peer.complaints,
                "endpoint",
                peer = peer.name,
                %destination,
                "packet dropped: the peer has no Endpoint and has not called yet"
            );
            return Outcome::Nothing;
        };
        let result = state.tunn.encapsulate(packet, out);
        sent(peer, &mut state, result, endpoint)
    }

    /// A datagram from the underlay. After `Send` or `Deliver`, call [`Crypt::flush`] for the same sender.
    pub fn inbound<'a>(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        out: &'a mut [u8],
    ) -> (Outcome<'a>, Option<&Peer>) {
        let mut cookie = [0; 64];
        let message = match self.limiter.verify_packet(Some(from.ip()), datagram, &mut cookie) {
            Ok(message) => message,
            Err(TunnResult::WriteToNetwork(reply)) => {
                complain!(self.complaints, "load", %from, "too many handshakes, asking for a cookie");
                out[..reply.len()].copy_from_slice(reply);
                return (Outcome::Send(&out[..64], from), None);
            }
            Err(TunnResult::Err(WireGuardError::InvalidMac)) => {
                complain!(
                    self.complaints,
                    "mac",
                    %from,
                    "handshake dropped: it is for another public key than ours; compare the sender's PublicKey of us"
                );
                return (Outcome::Nothing, None);
            }
            Err(other) => {
                complain!(self.complaints, "message", %from, ?other, "datagram dropped: not WireGuard's");
                return (Outcome::Nothing, None);
            }
        };
        let Some(peer) = self.sender(&message, from) else { return (Outcome::Nothing, None) };
        let handshake = !matches!(message, Packet::PacketData(_));

        let mut state = peer.state();
        let outcome = match state.tunn.decapsulate(Some(from.ip()), datagram, out) {
            TunnResult::Err(error) => {
                refused(peer, from, handshake, &error);
                return (Outcome::Nothing, None);
            }
            TunnResult::Done => Outcome::Nothing,
            TunnResult::WriteToNetwork(reply) => Outcome::Send(reply, from),
            TunnResult::WriteToTunnelV4(packet, source) => self.deliver(peer, packet, source.into()),
            TunnResult::WriteToTunnelV6(packet, source) => self.deliver(peer, packet, source.into()),
        };
        // It was authentic, so this is where the peer is now. (A cookie reply is, too: its MAC was checked.)
        if state.endpoint.replace(from) != Some(from) {
            info!(peer = peer.name, endpoint = %from, "endpoint learnt");
        }
        // An initiation alone may be a replayed one; data and responses prove a live session.
        let live = matches!(message, Packet::PacketData(_) | Packet::HandshakeResponse(_));
        if live && !state.up {
            state.up = true;
            info!(peer = peer.name, endpoint = %from, "handshake complete");
        }
        if live {
            state.attempts = 0;
        }
        drop(state);
        (outcome, Some(peer))
    }

    /// The next packet that waited for this peer's handshake.
    pub fn flush<'a>(peer: &Peer, from: SocketAddr, out: &'a mut [u8]) -> Option<(&'a [u8], SocketAddr)> {
        match peer.state().tunn.decapsulate(None, &[], out) {
            TunnResult::WriteToNetwork(packet) => Some((packet, from)),
            _ => None,
        }
    }

    /// Starts a handshake with a peer that is to be kept alive, so that it can reach us from the start.
    pub fn greet<'a>(peer: &Peer, out: &'a mut [u8]) -> Outcome<'a> {
        let mut state = peer.state();
        let (true, Some(endpoint)) = (peer.keepalive != 0, state.endpoint) else { return Outcome::Nothing };
        let result = state.tunn.format_handshake_initiation(out, false);
        sent(peer, &mut state, result, endpoint)
    }

    /// To be called for every peer about four times a second: handshakes, keepalives, expiry.
    pub fn tick<'a>(&self, peer: &Peer, out: &'a mut [u8]) -> Outcome<'a> {
        self.limiter.reset_count();
        let mut state = peer.state();
        if state.tunn.is_expired() {
            // Tunn gives up here until a packet is to be sent; a peer to be kept alive is called again.
            return match state.endpoint {
                Some(endpoint) if peer.keepalive != 0 => {
                    let result = state.tunn.format_handshake_initiation(out, true);
                    sent(peer, &mut state, result, endpoint)
                }
                _ => Outcome::Nothing,
            };
        }
        match (state.tunn.update_timers(out), state.endpoint) {
            (TunnResult::Err(WireGuardError::ConnectionExpired), _) => {
                if state.up || state.attempts > 0 {
                    warn!(
                        peer = peer.name,
                        attempts = state.attempts,
                        "session expired: the peer does not answer"
                    );
                }
                state.up = false;
                state.attempts = 0;
                Outcome::Nothing
            }
            (result, Some(endpoint)) => sent(peer, &mut state, result, endpoint),
            (_, None) => Outcome::Nothing,
        }
    }

    fn sender(&self, message: &Packet<'_>, from: SocketAddr) -> Option<&Peer> {
        let receiver = match message {
            Packet::HandshakeInit(init) => {
                let Ok(half) = parse_handshake_anon(&self.secret, &self.public, init) else {
                    complain!(self.complaints, "initiation", %from, "handshake dropped: it does not decrypt");
                    return None;
                };
                let peer = self.peers.by_key(&half.peer_static_public);
                if peer.is_none() {
                    complain!(
                        self.complaints,
                        "stranger",
                        %from,
                        key = short(&half.peer_static_public),
                        "handshake dropped: no [Peer] has this public key"
                    );
                }
                return peer;
            }
            Packet::HandshakeResponse(response) => response.receiver_idx,
            Packet::PacketCookieReply(reply) => reply.receiver_idx,
            Packet::PacketData(data) => data.receiver_idx,
        };
        let peer = self.peers.by_receiver(receiver);
        if peer.is_none() {
            complain!(self.complaints, "receiver", %from, "datagram dropped: it belongs to no peer of ours");
        }
        peer
    }

    fn deliver<'a>(&self, peer: &Peer, packet: &'a [u8], source: IpAddr) -> Outcome<'a> {
        if self.peers.by_address(source).is_some_and(|owner| std::ptr::eq(owner, peer)) {
            return Outcome::Deliver(packet);
        }
        complain!(
            peer.complaints,
            "source",
            peer = peer.name,
            %source,
            "packet dropped: its source is not in the peer's AllowedIPs"
        );
        Outcome::Nothing
    }
}

/// What `Tunn` made for a peer, and what it says about the handshake.
fn sent<'a>(peer: &Peer, state: &mut State, result: TunnResult<'a>, endpoint: SocketAddr) -> Outcome<'a> {
    match result {
        TunnResult::WriteToNetwork(packet) => {
            if let Ok(Packet::HandshakeInit(_)) = Tunn::parse_incoming_packet(packet) {
                state.attempts += 1;
                if state.attempts > ATTEMPTS_BEFORE_WARNING {
                    complain!(
                        peer.complaints,
                        "silence",
                        peer = peer.name,
                        %endpoint,
                        attempt = state.attempts,
                        "no answer to our handshake; is the peer up, and do its keys and ours match?"
                    );
                }
            }
            Outcome::Send(packet, endpoint)
        }
        TunnResult::Err(error) => {
            complain!(peer.complaints, "send", peer = peer.name, ?error, "cannot seal a packet for the peer");
            Outcome::Nothing
        }
        _ => Outcome::Nothing,
    }
}

/// A peer's message that its `Tunn` did not take.
fn refused(peer: &Peer, from: SocketAddr, handshake: bool, error: &WireGuardError) {
    let peer_name = &peer.name;
    match error {
        // Normal after a restart or a roam, or a replay.
        WireGuardError::DuplicateCounter
        | WireGuardError::InvalidCounter
        | WireGuardError::NoCurrentSession => {
            debug!(peer = peer_name, %from, ?error, "datagram dropped");
        }
        WireGuardError::WrongTai64nTimestamp => complain!(
            peer.complaints,
            "replay",
            peer = peer_name,
            %from,
            "handshake dropped: older than one we have seen, a replay or a clock set back"
        ),
        _ if handshake => complain!(
            peer.complaints,
            "handshake",
            peer = peer_name,
            %from,
            ?error,
            "handshake failed; compare both sides' PublicKey and PresharedKey"
        ),
        _ => complain!(peer.complaints, "data", peer = peer_name, %from, ?error, "datagram dropped"),
    }
}

#[cfg(test)]
#[path = "crypt_tests.rs"]
mod tests;
