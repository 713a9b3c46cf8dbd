//! Real servers and clients: what a socket sees.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::namespace::{Namespace, enter};

/// What a client sends and wants back.
const QUESTION: [u8; 16] = *b"bulkhead probe 1";

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP: connect, send, and get it back.
    Tcp,
    /// UDP: one datagram, and get it back.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whom.
    pub to: SocketAddr,
    /// How.
    pub protocol: Protocol,
}

/// What the client's socket saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server sent our bytes back.
    Replied,
    /// TCP connected, but nothing came back in time.
    Connected,
    /// A reset, or a port-unreachable message: the host was reached.
    Refused,
    /// Nothing at all.
    TimedOut,
    /// The system said something else.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Replied => f.pad("replied"),
            Outcome::Connected => f.pad("connected"),
            Outcome::Refused => f.pad("refused"),
            Outcome::TimedOut => f.pad("timed out"),
            Outcome::Failed(error) => f.pad(&format!("failed: {error}")),
        }
    }
}

/// Makes one attempt from inside a namespace.
///
/// # Errors
/// The namespace is gone.
pub fn probe(from: &Namespace, probe: Probe, limit: Duration) -> anyhow::Result<Outcome> {
    probe_all(from, &[probe], limit)?.pop().context("one probe, one outcome")
}

/// Makes all attempts at once, each with the same limit, and returns the outcomes in the same order.
///
/// # Errors
/// The namespace is gone, or the system gives no runtime.
pub fn probe_all(from: &Namespace, probes: &[Probe], limit: Duration) -> anyhow::Result<Vec<Outcome>> {
    from.run(|| -> anyhow::Result<Vec<Outcome>> {
        runtime()?.block_on(async {
            let mut tasks = JoinSet::new();
            for (number, &probe) in probes.iter().enumerate() {
                tasks.spawn(async move { (number, attempt(probe, limit).await) });
            }
            let mut outcomes = vec![Outcome::TimedOut; probes.len()];
            while let Some(done) = tasks.join_next().await {
                let (number, outcome) = done.context("a probe")?;
                outcomes[number] = outcome;
            }
            Ok(outcomes)
        })
    })?
}

async fn attempt(probe: Probe, limit: Duration) -> Outcome {
    let mut connected = false;
    let exchange = async {
        match probe.protocol {
            Protocol::Tcp => tcp(probe.to, &mut connected).await,
            Protocol::Udp => udp(probe.to).await,
        }
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(Ok(())) => Outcome::Replied,
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Outcome::Refused,
            io::ErrorKind::TimedOut => Outcome::TimedOut,
            _ => Outcome::Failed(error.to_string()),
        },
        Err(_) if connected => Outcome::Connected,
        Err(_) => Outcome::TimedOut,
    }
}

async fn tcp(to: SocketAddr, connected: &mut bool) -> io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    *connected = true;
    stream.write_all(&QUESTION).await?;
    let mut answer = [0; QUESTION.len()];
    stream.read_exact(&mut answer).await?;
    check(&answer)
}

async fn udp(to: SocketAddr) -> io::Result<()> {
    let any = if to.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    socket.send(&QUESTION).await?;
    let mut answer = [0; QUESTION.len() + 1];
    let length = socket.recv(&mut answer).await?;
    check(&answer[..length])
}

fn check(answer: &[u8]) -> io::Result<()> {
    if answer == QUESTION { Ok(()) } else { Err(io::Error::other("the answer is not what was sent")) }
}

/// A runtime on this thread.
pub(super) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// TCP and UDP servers on a host that send back what they get, on every address, until dropped.
#[derive(Debug)]
pub struct EchoServers {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServers {
    /// Binds the ports and serves them; when this returns, they answer.
    ///
    /// # Errors
    /// A port is taken, or the namespace is gone.
    pub fn start(host: &Namespace, tcp: &[u16], udp: &[u16]) -> anyhow::Result<EchoServers> {
        let file = host.open()?;
        let (tcp, udp) = (tcp.to_vec(), udp.to_vec());
        let (ready, is_ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let served = enter(&file).and_then(|()| runtime()).and_then(|runtime| {
                runtime.block_on(async {
                    let servers = bind(&tcp, &udp)?;
                    // The other end waits for this; if it is gone we are about to be stopped.
                    let _ = ready.send(Ok(()));
                    let _ = stopped.await;
                    drop(servers);
                    Ok(())
                })
            });
            if let Err(error) = served {
                let _ = ready.send(Err(error));
            }
        });
        let servers = EchoServers { stop: Some(stop), thread: Some(thread) };
        let started = is_ready
            .recv_timeout(Duration::from_secs(5))
            .map_err(|_| anyhow!("echo servers do not start"))?;
        started.with_context(|| format!("start echo servers in {}", host.name()))?;
        Ok(servers)
    }
}

impl Drop for EchoServers {
    fn drop(&mut self) {
        // Dropping the sender would do as well; either wakes the thread.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("lab: a thread of echo servers panicked");
        }
    }
}

fn bind(tcp: &[u16], udp: &[u16]) -> io::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for &port in tcp {
        let socket = dual_stack(Type::STREAM, port)?;
        socket.listen(64)?;
        let listener = TcpListener::from_std(socket.into())?;
        tasks.spawn(async move {
            let mut conversations = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                conversations.spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    tokio::io::copy(&mut reader, &mut writer).await
                });
                while conversations.try_join_next().is_some() {}
            }
        });
    }
    for &port in udp {
        let socket = UdpSocket::from_std(dual_stack(Type::DGRAM, port)?.into())?;
        tasks.spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            loop {
                // A port-unreachable message from a client that went away must not end the server.
                if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                    let _ = socket.send_to(&buffer[..length], from).await;
                }
            }
        });
    }
    Ok(tasks)
}

/// What an address may be held for after its socket was closed.
const LET_GO: Duration = Duration::from_secs(2);

/// A socket for both families.
fn dual_stack(kind: Type, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, kind.nonblocking().cloexec(), None)?;
    socket.set_only_v6(false)?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    // A child that is being started elsewhere has what this process closed just now open for a moment.
    let deadline = Instant::now() + LET_GO;
    loop {
        match socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound.map(|()| socket),
        }
    }
}
