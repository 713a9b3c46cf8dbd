//! Both ends of conversations of several kinds.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;

use crate::site::Site;

/// How long a conversation may take to go on, or to be reset.
pub const AT_ONCE: Duration = Duration::from_secs(1);
/// How long bytes are waited for that must not arrive.
pub const SILENCE: Duration = Duration::from_millis(400);

/// What a conversation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing has been said.
    Idle,
    /// One end has said that it is done, and hears the other.
    HalfClosed,
    /// Data flows all the time.
    Bulk,
    /// Something was asked and answered, and the connection kept.
    Pooled,
}

/// A conversation between the client and the server.
#[derive(Debug)]
pub struct Pair {
    pub kind: Kind,
    /// The client began it.
    pub is_inward: bool,
    client: Option<TcpStream>,
    server: Option<TcpStream>,
    /// Of one that is half closed: the server is who still sends.
    server_sends: bool,
    /// The byte that was sent last.
    said: u8,
}

impl Pair {
    /// Opens one. Whether it is by IPv4, who begins it and who is done first follow from the index.
    pub fn open(site: &Site, kind: Kind, index: usize) -> Self {
        let is_inward = index & 1 == 0;
        let (from, to, port) =
            if is_inward { ("client", "server", 8080) } else { ("server", "client", 9000) };
        let at = SocketAddr::new(site.addresses(to)[index >> 1 & 1], port);
        let listener = listen(site, to, at);
        let begun = site.namespace(from).run(|| TcpStream::connect_timeout(&at, slower(5 * AT_ONCE)));
        let begun = begun.unwrap().unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let (client, server) = if is_inward { (begun, accepted) } else { (accepted, begun) };
        let server_sends = index >> 2 & 1 == 0;
        let mut pair =
            Self { kind, is_inward, client: Some(client), server: Some(server), server_sends, said: 0 };
        match kind {
            Kind::Idle | Kind::Bulk => {}
            Kind::Pooled => pair.goes_on(),
            Kind::HalfClosed => {
                let [client, server] = pair.ends();
                let (done, mut hears) = if server_sends { (client, server) } else { (server, client) };
                done.shutdown(Shutdown::Write).unwrap();
                hears.set_read_timeout(Some(slower(5 * AT_ONCE))).unwrap();
                assert_eq!(hears.read(&mut [0]).unwrap(), 0);
            }
        }
        pair
    }

    fn ends(&self) -> [&TcpStream; 2] {
        [self.client.as_ref().unwrap(), self.server.as_ref().unwrap()]
    }

    /// Who sends to whom.
    fn ways(&self) -> Vec<[&TcpStream; 2]> {
        let [client, server] = self.ends();
        match (self.kind, self.server_sends) {
            (Kind::HalfClosed, true) => vec![[server, client]],
            (Kind::HalfClosed, false) => vec![[client, server]],
            _ => vec![[client, server], [server, client]],
        }
    }

    /// Sends each way that is open; whether that arrives, and not what was sent before.
    pub fn arrives(&mut self, limit: Duration) -> Vec<bool> {
        self.said += 1;
        let ways = self.ways().into_iter();
        ways.map(|[mut from, to]| {
            from.write_all(&[self.said]).unwrap();
            hears(to, self.said, limit)
        })
        .collect()
    }

    /// What is sent arrives at once. (Of one that is busy, [`Bulk`] says so.)
    #[track_caller]
    pub fn goes_on(&mut self) {
        if self.kind != Kind::Bulk {
            let arrives = self.arrives(AT_ONCE);
            assert!(arrives.iter().all(|arrives| *arrives), "should go on: {self:?}, {arrives:?}");
        }
    }

    #[track_caller]
    pub fn is_cut(&mut self) {
        let arrives = self.arrives(SILENCE);
        assert!(!arrives.contains(&true), "should be cut: {self:?}, {arrives:?}");
    }

    /// What was sent in vain arrives after all, once it is sent again.
    #[track_caller]
    pub fn comes_back(&mut self) {
        for [_, to] in self.ways() {
            assert!(hears(to, self.said, slower(20 * AT_ONCE)), "should come back: {self:?}");
        }
        self.goes_on();
    }

    /// The server's end is gone, as when its host stops: nothing is sent.
    pub fn forget_server(&mut self) {
        forget(self.server.take().unwrap());
    }

    /// The same of the client's.
    pub fn forget_client(&mut self) {
        forget(self.client.take().unwrap());
    }

    /// The client's end, unless it has said that it is done, and says nothing any more.
    pub fn speaking_client(&self) -> Option<&TcpStream> {
        let is_done = self.kind == Kind::HalfClosed && self.server_sends;
        self.client.as_ref().filter(|_| !is_done)
    }

    /// The client, which is still there, sends, and is told that there is nothing.
    #[track_caller]
    pub fn client_is_reset(&mut self) {
        let told = self.speaking_client().is_none_or(is_reset);
        assert!(told, "should be reset: {self:?}");
    }

    /// The same of the server.
    #[track_caller]
    pub fn server_is_reset(&mut self) {
        let end = self.server.as_ref().unwrap();
        if self.kind == Kind::HalfClosed && !self.server_sends {
            return;
        }
        assert!(is_reset(end), "should be reset: {self:?}");
    }
}

/// Whether this byte arrives, behind others or not.
fn hears(mut end: &TcpStream, byte: u8, limit: Duration) -> bool {
    let mut heard = [!byte];
    end.set_read_timeout(Some(limit)).unwrap();
    while heard[0] != byte {
        if end.read_exact(&mut heard).is_err() {
            return false;
        }
    }
    true
}

/// Whether an end that sends learns at once that there is no other one.
fn is_reset(mut end: &TcpStream) -> bool {
    end.set_nonblocking(true).unwrap();
    let started = Instant::now();
    while started.elapsed() < AT_ONCE {
        if let Err(error) = end.write(b"?")
            && error.kind() != ErrorKind::WouldBlock
        {
            return matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Closes a socket so that nothing is sent (TCP_REPAIR, tcp(7)).
pub fn forget(socket: TcpStream) {
    const TCP_REPAIR: libc::c_int = 19;
    let on: libc::c_int = 1;
    // SAFETY: an integer of the length that is given.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_REPAIR,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// A listener. A child that another test is starting may have the address for a moment.
fn listen(site: &Site, host: &str, at: SocketAddr) -> TcpListener {
    let deadline = Instant::now() + slower(20 * AT_ONCE);
    loop {
        match site.namespace(host).run(|| TcpListener::bind(at)).unwrap() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound.unwrap(),
        }
    }
}

/// Data that flows both ways in every busy conversation.
pub struct Bulk {
    stop: Arc<AtomicBool>,
    /// Bytes that have arrived, each way of each conversation.
    received: Arc<Vec<AtomicU64>>,
    mover: Option<JoinHandle<()>>,
}

impl Bulk {
    pub fn start(pairs: &[Pair]) -> Self {
        let busy = pairs.iter().filter(|pair| pair.kind == Kind::Bulk);
        let ways: Vec<[TcpStream; 2]> =
            busy.flat_map(Pair::ways).map(|ends| ends.map(|end| end.try_clone().unwrap())).collect();
        ways.iter().flatten().for_each(|end| end.set_nonblocking(true).unwrap());
        let received: Arc<Vec<AtomicU64>> = Arc::new(ways.iter().map(|_| AtomicU64::new(0)).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let (counts, ends) = (Arc::clone(&received), Arc::clone(&stop));
        let mover = std::thread::spawn(move || {
            let mut bytes = [7; 2048];
            while !ends.load(Ordering::Relaxed) {
                for (index, ([from, to], count)) in ways.iter().zip(counts.iter()).enumerate() {
                    let (mut from, mut to) = (from, to);
                    // However many there are, they fill no queue on their way.
                    if index % 8 == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    let _ = from.write(&[7; 512]);
                    if let Ok(read) = to.read(&mut bytes) {
                        count.fetch_add(read as u64, Ordering::Relaxed);
                    }
                }
            }
        });
        Self { stop, received, mover: Some(mover) }
    }

    /// Each way of each conversation goes on at once.
    #[track_caller]
    pub fn goes_on(&self) {
        let counts = || -> Vec<u64> { self.received.iter().map(|way| way.load(Ordering::Relaxed)).collect() };
        let (before, started) = (counts(), Instant::now());
        assert!(!before.is_empty());
        let stalled = || counts().iter().zip(&before).filter(|(now, then)| now == then).count();
        while stalled() != 0 {
            assert!(started.elapsed() < 2 * AT_ONCE, "{} of {} stand still", stalled(), before.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it; the sockets stay.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(mover) = self.mover.take() {
            mover.join().unwrap();
        }
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.end();
    }
}
