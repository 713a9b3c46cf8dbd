//! Tailscale, whose daemon has the keys: its LocalAPI, `GET /localapi/v0/status` by a Unix socket.

use std::collections::HashMap;
use std::path::Path;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::uapi::{PATIENCE, Place, of_root};
use crate::{Key, Peer, PeersError};

/// The daemon's socket.
pub const SOCKET: &str = "/run/tailscale/tailscaled.sock";

/// The longest answer, in bytes.
const LONGEST: usize = 64 << 20;

/// Of the status (Tailscale's ipn/ipnstate), what says who has which address.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    #[serde(default)]
    peer: Option<HashMap<String, PeerStatus>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PeerStatus {
    public_key: String,
    #[serde(default, rename = "AllowedIPs")]
    allowed: Option<Vec<IpNet>>,
    #[serde(default)]
    last_handshake: Option<String>,
}

/// The peers.
///
/// # Errors
/// If nobody answers, not in time, nobody who is root, or something else.
pub fn peers(socket: &Path) -> Result<Vec<Peer>, PeersError> {
    parse(&status(socket)?).map_err(|problem| PeersError::nonsense(socket.display().to_string(), problem))
}

/// What `tailscale status --json` prints.
///
/// # Errors
/// If nobody answers, not in time, or nobody who is root.
pub fn status(socket: &Path) -> Result<Vec<u8>, PeersError> {
    let what = &*socket.display().to_string();
    let system = || PeersError::system(what);
    let stream = Place::File(socket.to_owned()).connect().map_err(system())?;
    of_root(&stream, what)?;
    stream.set_nonblocking(true).map_err(system())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system())?;
    let asked = runtime.block_on(async {
        let stream = tokio::net::UnixStream::from_std(stream).map_err(system())?;
        let answer = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            // The host that Tailscale's own client names: the daemon refuses others.
            let request = Request::get("/localapi/v0/status").header("Host", "local-tailscaled.sock");
            let request = request.body(Empty::<Bytes>::new()).map_err(|error| Box::new(error) as Problem)?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            if !status.is_success() {
                return Err(format!("it answers {status}").into());
            }
            Ok::<_, Problem>(Limited::new(response.into_body(), LONGEST).collect().await?.to_bytes().to_vec())
        };
        let timed_out = |_| system()(std::io::ErrorKind::TimedOut.into());
        tokio::time::timeout(PATIENCE, answer).await.map_err(timed_out)
    })?;
    asked.map_err(|problem| PeersError::nonsense(what, problem.to_string()))
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

fn parse(answer: &[u8]) -> Result<Vec<Peer>, String> {
    let status: Status = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let peers = status.peer.unwrap_or_default().into_values().map(|peer| {
        let digits = peer.public_key.strip_prefix("nodekey:").unwrap_or_default();
        let key = Key::from_hex(digits.as_bytes()).ok_or("a peer's PublicKey is no node key")?;
        let allowed = peer.allowed.unwrap_or_default().iter().map(IpNet::trunc).collect();
        // Go's zero time, year 1, is before the Unix epoch.
        let time = peer.last_handshake.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
        let handshake = time.and_then(|time| u64::try_from(time.unix_timestamp()).ok());
        Ok(Peer { key, allowed, handshake })
    });
    peers.collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;

    const STATUS: &str = r#"{"Version": "1.98", "BackendState": "Running", "Self": {"PublicKey": "nodekey:00"},
        "Peer": {"nodekey:01": {"PublicKey": "nodekey:KEY", "TailscaleIPs": ["100.64.0.2"],
            "AllowedIPs": ["100.64.0.2/32", "10.0.0.7/24"], "LastHandshake": "2026-11-30T10:00:00.5Z"}}}"#;

    fn key() -> String {
        "01".repeat(32)
    }

    /// What is said to one who asks.
    fn told(answer: &[u8]) -> Result<Vec<Peer>, PeersError> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("tailscaled.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = answer.to_vec();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let length = stream.read(&mut asked).unwrap();
            // Whoever has read enough may go.
            let _ = stream.write_all(&answer);
            // Until the other end goes.
            if answer.is_empty() {
                let _ = stream.read(&mut [0]);
            }
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        let peers = peers(&socket);
        let asked = server.join().unwrap();
        assert!(asked.starts_with("GET /localapi/v0/status HTTP/1.1\r\n"), "{asked}");
        assert!(asked.to_lowercase().contains("host: local-tailscaled.sock"), "{asked}");
        peers
    }

    #[test]
    fn peers_are_read_as_the_daemon_tells_them() {
        let body = STATUS.replace("KEY", &key());
        let peers =
            told(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        let peers = peers.unwrap();
        assert_eq!((peers.len(), peers[0].key), (1, Key([1; 32])));
        assert_eq!(peers[0].handshake, Some(1_796_032_800));
        let allowed: Vec<_> = peers[0].allowed.iter().map(ToString::to_string).collect();
        assert_eq!(allowed, ["100.64.0.2/32", "10.0.0.0/24"]);
        assert_eq!(parse(br#"{"Peer": null}"#).unwrap(), []);
        let never = body.replace("2026-11-30T10:00:00.5Z", "0001-01-01T00:00:00Z");
        assert_eq!(parse(never.as_bytes()).unwrap()[0].handshake, None);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert!(
            told(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                .unwrap_err()
                .to_string()
                .contains("403")
        );
        assert!(told(b"nonsense").is_err());
        assert!(told(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{").is_err(), "half of it");
        assert!(parse(STATUS.as_bytes()).unwrap_err().contains("node key"));
        let began = Instant::now();
        assert!(told(b"").is_err());
        assert!(began.elapsed() < 3 * PATIENCE);
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        let long = [head.as_bytes(), &vec![b' '; LONGEST + 1]].concat();
        assert!(told(&long).is_err(), "it does not end");
    }
}
