//! Connections between the hosts of a site: whether one can be made, and goes on.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;

use super::{LIMIT, Site};

/// How long bytes may take that are to arrive: TCP may have to send them again.
const ARRIVES: Duration = Duration::from_secs(5);
/// How long bytes are waited for that must not arrive; TCP has sent them again twice by then.
const SILENCE: Duration = Duration::from_millis(700);

impl Site {
    /// A connection from a host to a port of the server.
    pub fn connect(&self, from: &str, port: u16) -> Connection {
        let at = SocketAddr::new(self.address("server"), port);
        let listener = self.listen("server", at);
        let client =
            self.namespace(from).run(|| TcpStream::connect_timeout(&at, slower(ARRIVES))).unwrap().unwrap();
        let (server, _) = listener.accept().unwrap();
        Connection { client, server }
    }

    /// Whether a new connection can be made.
    pub fn connects(&self, from: &str, port: u16) -> bool {
        self.connects_within(from, port, slower(ARRIVES))
    }

    /// Whether a new connection is met with silence.
    pub fn is_denied(&self, from: &str, port: u16) -> bool {
        !self.connects_within(from, port, SILENCE)
    }

    fn connects_within(&self, from: &str, port: u16, limit: Duration) -> bool {
        self.reaches(from, "server", SocketAddr::new(self.address("server"), port), limit)
    }

    /// Whether a new connection to a listener at an address of another host can be made on the switch.
    pub fn reaches_underlay(&self, from: &str, to: &str, port: u16) -> bool {
        // One that must be made is tried again by TCP after a second.
        self.reaches(from, to, SocketAddr::new(self.underlay(to), port), Duration::from_millis(1500))
    }

    /// A child that another test is starting has every listener of this process open until it runs its own
    /// program, so one that was closed just now may keep its address for a moment.
    fn listen(&self, host: &str, at: SocketAddr) -> TcpListener {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.namespace(host).run(|| TcpListener::bind(at)).unwrap() {
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                bound => return bound.unwrap(),
            }
        }
    }

    fn reaches(&self, from: &str, to: &str, at: SocketAddr, limit: Duration) -> bool {
        let _listener = self.listen(to, at);
        self.namespace(from).run(|| TcpStream::connect_timeout(&at, limit)).unwrap().is_ok()
    }
}

/// Both ends of a TCP connection.
pub struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    /// Sends both ways, and says which of them arrives: to the server, to the client.
    fn sent(&mut self, limit: Duration) -> [bool; 2] {
        [(&self.client, &self.server), (&self.server, &self.client)].map(|(mut from, mut to)| {
            to.set_read_timeout(Some(limit)).unwrap();
            from.write_all(b"?").unwrap();
            to.read_exact(&mut [0]).is_ok()
        })
    }

    /// Whether what is sent arrives: at the server, at the client.
    pub fn arrives(&mut self) -> [bool; 2] {
        self.sent(SILENCE)
    }

    /// When the last byte arrived at the server, of those that are sent until none does for a while.
    pub fn last_arrival(&mut self) -> Instant {
        let mut last = Instant::now();
        self.server.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        while last.elapsed() < SILENCE {
            assert!(self.client.write_all(b"?").is_ok(), "the buffer is full of what does not arrive");
            if self.server.read_exact(&mut [0]).is_ok() {
                last = Instant::now();
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        last
    }

    #[track_caller]
    pub fn goes_on(&mut self) {
        assert_eq!(self.sent(slower(ARRIVES)), [true, true], "a connection that should go on");
    }

    #[track_caller]
    pub fn is_cut(&mut self) {
        assert_eq!(self.sent(SILENCE), [false, false], "a connection that should be cut");
    }

    /// What was sent in vain arrives after all.
    #[track_caller]
    pub fn is_restored(&mut self) {
        for end in [&self.server, &self.client] {
            let mut end = end;
            // TCP waits for as long again as it has waited already.
            end.set_read_timeout(Some(slower(LIMIT))).unwrap();
            end.read_exact(&mut [0]).unwrap();
        }
        self.goes_on();
    }
}
