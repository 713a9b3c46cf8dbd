//! One client that asks without end, and what came of it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};

use super::slower;

/// What the answer to an admitted request may take: TCP sends again several times meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for UDP, which sends nothing again.
const GRACE: Duration = Duration::from_secs(2);
/// How long who is denied waits; a SYN is not sent again by then.
const SILENCE: Duration = Duration::from_millis(250);
/// Failures that are kept in words.
const TOLD: usize = 5;

/// How a client talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// One TCP connection that stays open, with requests and answers on it.
    Connection,
    /// A TCP connection for each request.
    Connections,
    /// UDP, all from one port.
    Datagrams,
    /// UDP, each from another port: each begins a flow.
    Openings,
}

impl Talk {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Connection, Self::Connections, Self::Datagrams, Self::Openings];

    /// Whether it is TCP; else it is UDP.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::Connection | Self::Connections)
    }
}

/// A client on one host and whom it asks.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The host it is on.
    pub from: String,
    /// The address that it has on its way there.
    pub source: IpAddr,
    /// The host that is asked.
    pub to: String,
    /// Where.
    pub at: SocketAddr,
    /// How.
    pub talk: Talk,
    /// Whether the policy admits it: then every request must be answered, else none may be heard.
    pub admitted: bool,
}

/// What a client counted. Every request is in the end answered or not.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) sent: AtomicU64,
    pub(super) answered: AtomicU64,
    /// The longest that an answer took, µs.
    pub(super) longest: AtomicU64,
    /// The first failures.
    pub(super) failures: Mutex<Vec<String>>,
    start: Instant,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            failures: Mutex::default(),
            start: Instant::now(),
        }
    }

    fn send(&self) -> Instant {
        self.sent.fetch_add(1, Ordering::Relaxed);
        Instant::now()
    }

    fn answer(&self, asked: Instant) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.longest.fetch_max(asked.elapsed().as_micros() as u64, Ordering::Relaxed);
    }

    fn fail(&self, asked: Instant, error: &io::Error) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < TOLD {
            failures.push(format!("asked after {:.3?}: {error}", asked - self.start));
        }
    }

    /// One request, which is over within `limit`.
    async fn request(
        &self,
        limit: Duration,
        exchange: impl Future<Output = io::Result<()>>,
    ) -> io::Result<()> {
        let asked = self.send();
        let done = timeout(limit, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match &done {
            Ok(()) => self.answer(asked),
            Err(error) => self.fail(asked, error),
        }
        done
    }
}

/// Where one stands in asking.
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) tally: Arc<Tally>,
    /// Between two requests.
    pub(super) pause: Duration,
    pub(super) stop: Arc<AtomicBool>,
}

impl Client {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn limit(&self) -> Duration {
        match (self.stream.admitted, self.stream.talk.is_tcp()) {
            (false, _) => SILENCE,
            (true, true) => slower(PATIENCE),
            (true, false) => slower(GRACE),
        }
    }

    /// Asks until it is told to stop, and waits for the last answers.
    pub(super) async fn run(self) {
        match self.stream.talk {
            Talk::Connection => {
                while self.goes_on() {
                    // What failed is counted; the next connection must do.
                    let _ = self.connection().await;
                    sleep(self.pause).await;
                }
            }
            Talk::Connections => {
                while self.goes_on() {
                    let exchange = async {
                        let mut stream = TcpStream::connect(self.stream.at).await?;
                        exchange(&mut stream, 1).await
                    };
                    let _ = self.tally.request(self.limit(), exchange).await;
                    sleep(self.pause).await;
                }
            }
            Talk::Datagrams => self.datagrams().await,
            Talk::Openings => self.openings().await,
        }
    }

    async fn connection(&self) -> io::Result<()> {
        let mut stream = None;
        let connect = async {
            stream = Some(TcpStream::connect(self.stream.at).await?);
            Ok(())
        };
        self.tally.request(self.limit(), connect).await?;
        let Some(mut stream) = stream else { return Ok(()) };
        stream.set_nodelay(true)?;
        let mut number = 0;
        while self.goes_on() {
            number += 1;
            self.tally.request(self.limit(), exchange(&mut stream, number)).await?;
            sleep(self.pause).await;
        }
        Ok(())
    }

    async fn datagrams(&self) {
        let socket = match self.socket().await {
            Ok(socket) => socket,
            Err(error) => {
                let asked = self.tally.send();
                return self.tally.fail(asked, &error);
            }
        };
        let mut waiting = HashMap::new();
        let mut number = 0u64;
        while self.goes_on() {
            number += 1;
            let asked = self.tally.send();
            waiting.insert(number, asked);
            // It tells of an earlier one's refusal, too; what is not answered is counted below.
            let _ = socket.send(&number.to_be_bytes()).await;
            self.collect(&socket, &mut waiting, self.pause).await;
        }
        self.collect(&socket, &mut waiting, self.limit()).await;
        for asked in waiting.into_values() {
            self.tally.fail(asked, &io::ErrorKind::TimedOut.into());
        }
    }

    /// Takes answers for as long as that; no longer than there is something to wait for.
    async fn collect(&self, socket: &UdpSocket, waiting: &mut HashMap<u64, Instant>, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        let mut answer = [0; 8];
        while let Ok(received) = timeout_at(until, socket.recv(&mut answer)).await {
            if received.is_ok_and(|length| length == answer.len())
                && let Some(asked) = waiting.remove(&u64::from_be_bytes(answer))
            {
                self.tally.answer(asked);
            }
            if waiting.is_empty() && !self.goes_on() {
                return;
            }
        }
    }

    async fn openings(&self) {
        let mut under_way = JoinSet::new();
        while self.goes_on() {
            let (tally, limit, socket) = (self.tally.clone(), self.limit(), self.socket().await);
            under_way.spawn(async move {
                let exchange = async {
                    let socket = socket?;
                    socket.send(&[1; 8]).await?;
                    socket.recv(&mut [0; 8]).await.map(drop)
                };
                tally.request(limit, exchange).await
            });
            while under_way.try_join_next().is_some() {}
            sleep(self.pause).await;
        }
        under_way.join_all().await;
    }

    async fn socket(&self) -> io::Result<UdpSocket> {
        let any: IpAddr = match self.stream.at {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(self.stream.at).await?;
        Ok(socket)
    }
}

/// Sends a number and gets it back.
async fn exchange(stream: &mut TcpStream, number: u64) -> io::Result<()> {
    stream.write_all(&number.to_be_bytes()).await?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await?;
    if u64::from_be_bytes(answer) == number {
        Ok(())
    } else {
        Err(io::Error::other("the answer is not what was sent"))
    }
}
