//! Moving packets: a task for each direction and address family, and one for the timers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tracing::warn;
use tun_rs::AsyncDevice;

use super::config::Interface;
use super::crypt::{Crypt, Outcome, complain};
use super::throttle::Throttle;

/// The largest datagram, which is more than the largest packet and its sealing.
const BUFFER: usize = 1 << 16;

/// How often `Tunn`'s timers run.
const TICK: Duration = Duration::from_millis(250);

/// The underlay's receive and send buffers, in bytes: bursts come while we encrypt.
const SOCKET_BUFFER: usize = 1 << 20;

/// The sockets on the underlay, one port for both families.
pub struct Underlay {
    v4: UdpSocket,
    /// Absent where the kernel has no IPv6.
    v6: Option<UdpSocket>,
}

impl Underlay {
    /// Binds the listening port, or one port that is free in both families.
    ///
    /// # Errors
    /// The port is taken, or the mark needs a privilege.
    pub fn bind(interface: &Interface) -> anyhow::Result<Underlay> {
        let wanted = interface.listen_port;
        for _ in 0..16 {
            let v4 = socket(Domain::IPV4, SocketAddr::from(([0; 4], wanted)), interface.mark)
                .with_context(|| listening(wanted))?;
            let port = v4.local_addr()?.port();
            let v6 = match socket(Domain::IPV6, SocketAddr::from(([0u16; 8], port)), interface.mark) {
                Ok(v6) => Some(v6),
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                    warn!("this kernel has no IPv6: peers are reached by IPv4 only");
                    None
                }
                Err(error) if wanted == 0 && error.kind() == io::ErrorKind::AddrInUse => continue,
                Err(error) => return Err(error).with_context(|| listening(port)),
            };
            return Ok(Underlay { v4, v6 });
        }
        anyhow::bail!("no UDP port is free in both families; set ListenPort")
    }

    /// The listening port.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.v4.local_addr()?.port())
    }

    async fn send(&self, packet: &[u8], to: SocketAddr) -> io::Result<()> {
        let socket = match (to, &self.v6) {
            (SocketAddr::V4(_), _) => &self.v4,
            (SocketAddr::V6(_), Some(v6)) => v6,
            (SocketAddr::V6(_), None) => return Err(io::ErrorKind::Unsupported.into()),
        };
        socket.send_to(packet, to).await.map(drop)
    }
}

fn listening(port: u16) -> String {
    format!("listen on UDP port {port}; choose another ListenPort if it is taken")
}

fn socket(domain: Domain, address: SocketAddr, mark: u32) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    } else {
        allow_fragments(&socket)?;
    }
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    // The kernel gives less where less is allowed; that is no reason to stop.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// As the kernel's WireGuard: no packet of the tunnel says "don't fragment", so that one which is too long for
/// some part of the way arrives in parts, and no error that anybody may forge makes the way narrower. (By IPv6
/// only senders fragment, and the kernel does so here.)
fn allow_fragments(socket: &Socket) -> io::Result<()> {
    let never: libc::c_int = libc::IP_PMTUDISC_DONT;
    // SAFETY: an integer of the length that is given.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const never).cast(),
            size_of_val(&never) as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the tasks share.
struct Shared {
    crypt: Crypt,
    device: AsyncDevice,
    underlay: Underlay,
    complaints: Throttle,
}

/// Carries packets until one of the tasks fails; dropping the future stops them all.
///
/// # Errors
/// The interface is gone, or a task panicked.
pub async fn run(crypt: Crypt, device: AsyncDevice, underlay: Underlay) -> anyhow::Result<()> {
    let complaints = Throttle::new(Duration::from_secs(5));
    let shared = Arc::new(Shared { crypt, device, underlay, complaints });
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&shared).outbound());
    tasks.spawn(Arc::clone(&shared).inbound(false));
    if shared.underlay.v6.is_some() {
        tasks.spawn(Arc::clone(&shared).inbound(true));
    }
    tasks.spawn(shared.timers());
    match tasks.join_next().await {
        Some(ended) => ended.context("the tunnel's packet task")?,
        None => Ok(()),
    }
}

impl Shared {
    async fn outbound(self: Arc<Self>) -> anyhow::Result<()> {
        let (mut packet, mut out) = (vec![0; BUFFER], vec![0; BUFFER]);
        loop {
            let length = self
                .device
                .recv(&mut packet)
                .await
                .context("read the tunnel's interface; was it removed?")?;
            self.carry(self.crypt.outbound(&packet[..length], &mut out)).await;
        }
    }

    async fn inbound(self: Arc<Self>, v6: bool) -> anyhow::Result<()> {
        let (mut datagram, mut out) = (vec![0; BUFFER], vec![0; BUFFER]);
        let socket =
            if v6 { self.underlay.v6.as_ref().unwrap_or(&self.underlay.v4) } else { &self.underlay.v4 };
        loop {
            let (length, from) = match socket.recv_from(&mut datagram).await {
                Ok(received) => received,
                Err(error) => {
                    complain!(self.complaints, "receive", %error, "cannot read from the underlay");
                    // A lasting error must not turn into a busy loop.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let (outcome, peer) = self.crypt.inbound(&datagram[..length], from, &mut out);
            let answered = matches!(outcome, Outcome::Send(..));
            self.carry(outcome).await;
            // Only a handshake message is answered, and then packets may have waited for it.
            if let (true, Some(peer)) = (answered, peer) {
                while let Some((packet, to)) = Crypt::flush(peer, from, &mut out) {
                    self.carry(Outcome::Send(packet, to)).await;
                }
            }
        }
    }

    async fn timers(self: Arc<Self>) -> anyhow::Result<()> {
        let mut out = vec![0; BUFFER];
        for peer in self.crypt.peers() {
            self.carry(Crypt::greet(peer, &mut out)).await;
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for peer in self.crypt.peers() {
                self.carry(self.crypt.tick(peer, &mut out)).await;
            }
        }
    }

    /// Sends or delivers; what fails is said and lost, as on any network.
    async fn carry(&self, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Send(packet, to) => {
                if let Err(error) = self.underlay.send(packet, to).await {
                    complain!(self.complaints, "send", %to, %error, "cannot send on the underlay");
                }
            }
            Outcome::Deliver(packet) => {
                if let Err(error) = self.device.send(packet).await {
                    complain!(self.complaints, "deliver", %error, "the interface did not take a packet");
                }
            }
        }
    }
}
