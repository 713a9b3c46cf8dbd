//! Two clients that never pause: one whose every request must be answered, one who must not be heard.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_tests::lab::EchoServers;

use super::Site;

/// Between two requests: 200 a second.
const PAUSE: Duration = Duration::from_millis(5);

/// What the clients and the denied port's own socket counted.
#[derive(Debug)]
pub struct Counts {
    /// Requests sent.
    pub sent: u32,
    /// Requests of those without an answer.
    pub unanswered: usize,
    /// Packets that reached the denied port.
    pub denied_through: u32,
}

/// The clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(u32, usize)>>,
    denied: UdpSocket,
    _servers: EchoServers,
}

impl Load {
    /// UDP from `client` to the server: `allowed` is echoed, `denied` must stay silent.
    pub fn start(site: &Site, allowed: u16, denied: u16) -> Self {
        let servers = EchoServers::start(site.namespace("server"), &[], &[allowed]).unwrap();
        let at = |port| SocketAddr::new(site.address("server"), port);
        let heard = site.namespace("server").run(|| UdpSocket::bind(at(denied))).unwrap().unwrap();
        heard.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let clients = [allowed, denied].map(|port| {
            let any = SocketAddr::from(([0, 0, 0, 0], 0));
            let socket = site.namespace("client").run(|| UdpSocket::bind(any)).unwrap().unwrap();
            socket.connect(at(port)).unwrap();
            let stop = stop.clone();
            std::thread::spawn(move || ask(&socket, &stop))
        });
        Self { stop, clients: clients.into(), denied: heard, _servers: servers }
    }

    /// Ends it, and waits a while for the last answers.
    pub fn stop(self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        let mut counts: Vec<_> = self.clients.into_iter().map(|client| client.join().unwrap()).collect();
        let (denied_sent, denied_unanswered) = counts.pop().unwrap();
        assert_eq!(denied_unanswered, denied_sent as usize, "somebody answered the denied client");
        let (sent, unanswered) = counts.pop().unwrap();
        let mut denied_through = 0;
        while self.denied.recv(&mut [0; 16]).is_ok() {
            denied_through += 1;
        }
        Counts { sent, unanswered, denied_through }
    }
}

/// Numbered requests until told to stop; how many, and how many of them had no answer.
fn ask(socket: &UdpSocket, stop: &AtomicBool) -> (u32, usize) {
    let mut waiting = HashSet::new();
    let (mut number, mut sent) = (0u32, 0);
    let listen = |waiting: &mut HashSet<u32>, limit: Duration| {
        let deadline = Instant::now() + limit;
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            let mut answer = [0; 4];
            socket.set_read_timeout(Some(left)).unwrap();
            if socket.recv(&mut answer).is_ok() {
                waiting.remove(&u32::from_be_bytes(answer));
            }
        }
    };
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        // A port that nobody may reach refuses nothing, but the socket may tell of an earlier one.
        if socket.send(&number.to_be_bytes()).is_ok() {
            waiting.insert(number);
            sent += 1;
        }
        listen(&mut waiting, PAUSE);
    }
    listen(&mut waiting, Duration::from_millis(500));
    (sent, waiting.len())
}
