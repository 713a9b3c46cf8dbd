//! WireGuard in user space, by the cross-platform interface that its implementations share
//! (<https://www.wireguard.com/xplatform/>): a Unix socket for each interface, `get=1`, and lines of `key=value`.

use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, SockAddr, Socket, Type};
use zeroize::Zeroizing;

use crate::{Key, Peer, PeersError};

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// The longest answer, in bytes: some 400,000 peers.
const LONGEST: usize = 64 << 20;

/// The longest line, in bytes. The longest that means something to us is that of a key.
const LONGEST_LINE: usize = 4096;

/// Where implementations in user space have their sockets.
pub const DIRECTORY: &str = "/run/wireguard";

/// Where an interface is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A socket in the file system.
    File(PathBuf),
    /// A name of the network namespace: of `bulkhead tunnel`, whose interfaces in other namespaces may have the
    /// same name.
    Name(String),
}

impl Place {
    /// The socket of an implementation such as wireguard-go or boringtun.
    #[must_use]
    pub fn of(interface: &str) -> Self {
        Self::File(Path::new(DIRECTORY).join(format!("{interface}.sock")))
    }

    /// The socket of `bulkhead tunnel`.
    #[must_use]
    pub fn of_tunnel(interface: &str) -> Self {
        Self::Name(format!("bulkhead-tunnel/{interface}"))
    }

    /// The socket's address.
    ///
    /// # Errors
    /// If it is too long for one.
    pub fn address(&self) -> io::Result<SockAddr> {
        match self {
            Self::File(path) => SockAddr::unix(path),
            Self::Name(name) => SockAddr::unix(format!("\0{name}")),
        }
    }

    /// Connects; never waits for longer than [`PATIENCE`].
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Also of connecting, to somebody who accepts nobody.
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(&self.address()?)?;
        Ok(UnixStream::from(std::os::fd::OwnedFd::from(socket)))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Name(name) => write!(f, "@{name}"),
        }
    }
}

/// The peers of an interface.
///
/// # Errors
/// If nobody answers, not in time, nobody who is root, or something else.
pub fn peers(place: &Place) -> Result<Vec<Peer>, PeersError> {
    let what = place.to_string();
    let until = Instant::now() + PATIENCE;
    let mut stream = place.connect().map_err(PeersError::system(what.clone()))?;
    of_root(&stream, &what)?;
    stream.write_all(b"get=1\n\n").map_err(PeersError::system(what.clone()))?;
    read(&mut Timed { stream, until }, &what)
}

/// An end that somebody without rights holds says what he likes.
pub(crate) fn of_root(stream: &UnixStream, what: &str) -> Result<(), PeersError> {
    let whose = socket_peercred(stream).map_err(|error| PeersError::system(what)(error.into()))?;
    if whose.uid.is_root() { Ok(()) } else { Err(PeersError::NotRoot(what.to_owned())) }
}

/// Reads until a moment.
struct Timed {
    stream: UnixStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

/// An answer to `get=1`. Private and pre-shared keys pass through one buffer, which is wiped.
fn read(answer: &mut impl Read, what: &str) -> Result<Vec<Peer>, PeersError> {
    let nonsense = |problem: &str| PeersError::nonsense(what, problem);
    let mut buffer = Zeroizing::new([0; LONGEST_LINE]);
    let (mut filled, mut total) = (0, 0);
    let mut parsed = Answer::default();
    loop {
        let mut start = 0;
        while let Some(length) = buffer[start..filled].iter().position(|byte| *byte == b'\n') {
            let line = &buffer[start..start + length];
            if parsed.line(line).ok_or_else(|| nonsense("a line that cannot be read"))? {
                return parsed
                    .end()
                    .ok_or_else(|| nonsense("it ends with an error, or without saying how it went"));
            }
            start += length + 1;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if filled == buffer.len() {
            return Err(nonsense("a line without end"));
        }
        let more = match answer.read(&mut buffer[filled..]) {
            Ok(0) => return Err(nonsense("it breaks off")),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            read => read.map_err(PeersError::system(what))?,
        };
        (filled, total) = (filled + more, total + more);
        if total > LONGEST {
            return Err(nonsense("it does not end"));
        }
    }
}

/// What an answer has said so far.
#[derive(Default)]
struct Answer {
    peers: Vec<Peer>,
    errno: Option<u32>,
}

impl Answer {
    /// One line: whether it was the last. None if it cannot be read.
    fn line(&mut self, line: &[u8]) -> Option<bool> {
        if line.is_empty() {
            return Some(true);
        }
        let equals = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&line[..equals], &line[equals + 1..]);
        match name {
            b"public_key" => {
                self.peers.push(Peer { key: Key::from_hex(value)?, allowed: Vec::new(), handshake: None });
            }
            b"allowed_ip" => self.peers.last_mut()?.allowed.push(text(value)?.parse::<IpNet>().ok()?.trunc()),
            b"last_handshake_time_sec" => {
                let seconds = text(value)?.parse::<u64>().ok()?;
                self.peers.last_mut()?.handshake = (seconds != 0).then_some(seconds);
            }
            b"errno" => self.errno = Some(text(value)?.parse().ok()?),
            // Secrets among them: their values are not looked at.
            _ => {}
        }
        Some(false)
    }

    fn end(self) -> Option<Vec<Peer>> {
        (self.errno == Some(0)).then_some(self.peers)
    }
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::os::unix::net::UnixListener;

    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    fn answer(text: &str) -> Result<Vec<Peer>, PeersError> {
        read(&mut Cursor::new(text.as_bytes()), "it")
    }

    #[test]
    fn an_answer_is_read_as_the_interface_is_defined() {
        let text = format!(
            "private_key={KEY}\nlisten_port=51820\npublic_key={KEY}\npreshared_key={KEY}\nendpoint=[::1]:5\n\
             last_handshake_time_sec=1800000000\nlast_handshake_time_nsec=7\ntx_bytes=1\nallowed_ip=10.0.0.2/32\n\
             allowed_ip=fd00::9/64\nprotocol_version=1\npublic_key={}\nlast_handshake_time_sec=0\nerrno=0\n\n",
            KEY.replace('1', "2")
        );
        let peers = answer(&text).unwrap();
        assert_eq!(peers.len(), 2);
        assert_eq!((peers[0].key, peers[0].handshake), (Key([1; 32]), Some(1_800_000_000)));
        let allowed: Vec<_> = peers[0].allowed.iter().map(ToString::to_string).collect();
        assert_eq!(allowed, ["10.0.0.2/32", "fd00::/64"]);
        assert_eq!((peers[1].key, peers[1].handshake, peers[1].allowed.len()), (Key([2; 32]), None, 0));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let long = format!("{}\n\n", "x".repeat(LONGEST_LINE + 1));
        let endless = "fwmark=1\n".repeat(LONGEST / 9 + 1);
        for (text, problem) in [
            ("", "breaks off"),
            ("errno=0\n", "breaks off"),
            ("\n", "without saying"),
            ("errno=1\n\n", "ends with an error"),
            ("nonsense\n\n", "cannot be read"),
            ("allowed_ip=10.0.0.1/32\n\n", "cannot be read"),
            ("public_key=00\n\n", "cannot be read"),
            (&long, "without end"),
            (&endless, "does not end"),
        ] {
            let told = answer(text).unwrap_err().to_string();
            assert!(told.contains(problem), "{told}");
        }
    }

    #[test]
    fn whoever_is_silent_or_slow_is_waited_for_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::File(directory.path().join("wg0.sock"));
        let listener = UnixListener::bind(directory.path().join("wg0.sock")).unwrap();
        let began = Instant::now();
        let told = peers(&place).unwrap_err().to_string();
        assert!(began.elapsed() < 3 * PATIENCE, "{told}");
        // A byte every now and then makes it no longer.
        let dripping = std::thread::spawn(move || {
            for mut stream in [listener.accept().unwrap().0, listener.accept().unwrap().0] {
                while stream.write_all(b"a").is_ok() {
                    std::thread::sleep(PATIENCE / 10);
                }
            }
        });
        let began = Instant::now();
        assert!(peers(&place).is_err());
        assert!(began.elapsed() < 3 * PATIENCE);
        dripping.join().unwrap();
        assert!(peers(&place).unwrap_err().to_string().contains("refused"), "nobody listens any more");
    }

    #[test]
    fn whoever_accepts_nobody_is_waited_for_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::File(directory.path().join("wg0.sock"));
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&place.address().unwrap()).unwrap();
        socket.listen(0).unwrap();
        let began = Instant::now();
        // The first fill what waits to be accepted.
        for _ in 0..3 {
            assert!(peers(&place).is_err());
        }
        assert!(began.elapsed() < 6 * PATIENCE);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&mut Cursor::new(&bytes), "it");
            let _ = Answer::default().line(&bytes);
        }
    }
}
