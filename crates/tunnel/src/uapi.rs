//! What the tunnel tells of its peers, and how a prefix is given to another one: `get=1` and a part of `set=1` of
//! WireGuard's cross-platform interface (<https://www.wireguard.com/xplatform/>). Private and pre-shared keys are
//! neither told nor taken.
//!
//! The socket is a name of the network namespace, not a file: in another namespace there may be an interface of the
//! same name. Whoever is not root is not answered.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bulkhead_peers::Key;
use bulkhead_peers::uapi::Place;
use ipnet::IpNet;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::peers::Peers;

/// How long who asks may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest request, in bytes.
const LONGEST: usize = 1 << 20;

/// `EINVAL` and `EOPNOTSUPP` of Linux, as answers have them.
const INVALID: u32 = libc::EINVAL as u32;
const UNSUPPORTED: u32 = libc::EOPNOTSUPP as u32;

/// The socket of an interface.
///
/// # Errors
/// If somebody has it.
pub fn listen(interface: &str) -> anyhow::Result<UnixListener> {
    let place = Place::of_tunnel(interface);
    let bind = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        socket.bind(&place.address()?)?;
        socket.listen(16)?;
        UnixListener::from_std(OwnedFd::from(socket).into())
    };
    bind().with_context(|| format!("listen on {place}; is there another tunnel of that name?"))
}

/// Answers whoever asks, for ever.
pub async fn serve(listener: UnixListener, peers: Arc<Peers>) -> anyhow::Result<()> {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // A lasting error must not turn into a busy loop.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let peers = Arc::clone(&peers);
        tokio::spawn(async move { tokio::time::timeout(PATIENCE, answer(stream, &peers)).await });
    }
}

async fn answer(mut stream: UnixStream, peers: &Peers) -> std::io::Result<()> {
    if stream.peer_cred()?.uid() != 0 {
        return Ok(());
    }
    let mut request = Vec::new();
    while !request.ends_with(b"\n\n") {
        let mut part = [0; 4096];
        let length = stream.read(&mut part).await?;
        request.extend_from_slice(&part[..length]);
        if length == 0 || request.len() > LONGEST {
            return Ok(());
        }
    }
    let answer = match std::str::from_utf8(&request) {
        Ok("get=1\n\n") => get(peers),
        Ok(request) => match request.strip_prefix("set=1\n") {
            Some(lines) => format!("errno={}\n\n", set(peers, lines).err().unwrap_or(0)),
            None => format!("errno={INVALID}\n\n"),
        },
        Err(_) => format!("errno={INVALID}\n\n"),
    };
    stream.write_all(answer.as_bytes()).await
}

fn get(peers: &Peers) -> String {
    let mut text = String::new();
    for (peer, allowed) in peers.iter().zip(peers.allowed()) {
        let handshake = peer.state().tunn.time_since_last_handshake();
        let time = handshake.and_then(|age| SystemTime::now().checked_sub(age));
        let seconds =
            time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_secs());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "public_key={:?}\nlast_handshake_time_sec={seconds}\nlast_handshake_time_nsec=0",
            Key(peer.key)
        );
        for prefix in allowed {
            let _ = writeln!(text, "allowed_ip={prefix}");
        }
    }
    text + "errno=0\n\n"
}

/// Gives prefixes to peers; all of a request or nothing of it.
fn set(peers: &Peers, lines: &str) -> Result<(), u32> {
    let mut changes: Vec<(usize, bool, Vec<IpNet>)> = Vec::new();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once('=').ok_or(INVALID)?;
        match (name, changes.last_mut()) {
            ("public_key", _) => {
                let key = Key::from_hex(value.as_bytes()).ok_or(INVALID)?;
                changes.push((peers.index_of(&key.0).ok_or(UNSUPPORTED)?, false, Vec::new()));
            }
            ("update_only", Some(_)) if value == "true" => {}
            ("replace_allowed_ips", Some(change)) if value == "true" => change.1 = true,
            ("allowed_ip", Some(change)) => {
                change.2.push(value.parse::<IpNet>().map_err(|_| INVALID)?.trunc());
            }
            _ => return Err(UNSUPPORTED),
        }
    }
    peers.set_allowed(&changes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use boringtun::noise::rate_limiter::RateLimiter;
    use boringtun::x25519::{PublicKey, StaticSecret};

    use super::super::config;
    use super::*;

    fn peers() -> Peers {
        let peer = |byte: u8, allowed: &str| config::Peer {
            public_key: [byte; 32],
            preshared_key: Some(config::Secret([7; 32])),
            allowed: vec![allowed.parse().unwrap()],
            endpoint: None,
            keepalive: 0,
            line: 1,
        };
        let secret = StaticSecret::from([9; 32]);
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(&secret), 10));
        Peers::new(&secret, &limiter, &[peer(1, "10.0.0.1/32"), peer(2, "fd00::2/128")], &[None; 2])
    }

    fn hex(byte: u8) -> String {
        format!("{byte:02x}").repeat(32)
    }

    #[test]
    fn what_is_told_is_the_peers_without_secrets() {
        let text = get(&peers());
        assert!(
            text.contains(&format!("public_key={}\n", hex(1))) && text.ends_with("\nerrno=0\n\n"),
            "{text}"
        );
        assert!(
            text.contains("allowed_ip=10.0.0.1/32\n") && text.contains("allowed_ip=fd00::2/128\n"),
            "{text}"
        );
        assert!(!text.contains(&hex(7)) && !text.contains(&hex(9)), "{text}");
    }

    #[test]
    fn a_prefix_moves_to_another_peer() {
        let peers = peers();
        let owner = |text: &str| peers.by_address(text.parse().unwrap()).map(|peer| peer.key[0]);
        set(&peers, &format!("public_key={}\nallowed_ip=10.0.0.1/32\n\n", hex(2))).unwrap();
        assert_eq!((owner("10.0.0.1"), owner("fd00::2")), (Some(2), Some(2)));
        assert_eq!(peers.allowed()[0].len(), 0);
        let both = format!(
            "public_key={}\nupdate_only=true\nreplace_allowed_ips=true\nallowed_ip=10.0.0.9/8\npublic_key={}\n\
             replace_allowed_ips=true\n",
            hex(1),
            hex(2)
        );
        set(&peers, &both).unwrap();
        assert_eq!((owner("10.0.0.1"), owner("fd00::2")), (Some(1), None));
        for (lines, error) in [
            (format!("public_key={}\nallowed_ip=10.0.0.1/32\nallowed_ip=nonsense\n", hex(2)), INVALID),
            (format!("public_key={}\n", hex(3)), UNSUPPORTED),
            (format!("private_key={}\n", hex(3)), UNSUPPORTED),
            ("allowed_ip=10.0.0.1/32\n".to_owned(), UNSUPPORTED),
        ] {
            assert_eq!(set(&peers, &lines), Err(error), "{lines}");
            assert_eq!(owner("10.0.0.1"), Some(1), "nothing of it");
        }
    }
}
