//! The other end: tells whoever comes as whom it is seen, and keeps what it has seen.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

use bulkhead_testkit::lab::Namespace;

/// Who was seen, by whatever came.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Vec<Heard>>>);

/// From whom, and what.
type Heard = (IpAddr, Vec<u8>);

impl Witness {
    /// Answers at each address and port by TCP and UDP, as long as the process lives.
    pub fn start(namespace: &Namespace, at: &[SocketAddr]) -> Self {
        let witness = Self::default();
        for at in at {
            let made = namespace.run(|| (TcpListener::bind(at), UdpSocket::bind(at))).unwrap();
            let (tcp, udp) = (made.0.unwrap(), made.1.unwrap());
            let of_tcp = witness.clone();
            std::thread::spawn(move || {
                for stream in tcp.incoming().flatten() {
                    let of_one = of_tcp.clone();
                    std::thread::spawn(move || of_one.serve(stream));
                }
            });
            let of_udp = witness.clone();
            std::thread::spawn(move || {
                let mut bytes = [0; 200];
                while let Ok((length, from)) = udp.recv_from(&mut bytes) {
                    of_udp.note(from.ip(), &bytes[..length]);
                    let _ = udp.send_to(from.ip().to_string().as_bytes(), from);
                }
            });
        }
        witness
    }

    fn serve(&self, mut stream: std::net::TcpStream) {
        let Ok(from) = stream.peer_addr() else { return };
        self.note(from.ip(), b"connection");
        let _ = stream.write_all(from.ip().to_string().as_bytes());
        let mut bytes = [0; 200];
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            // Who it is was noted when it connected; what it says may come after its next answer.
            let _ = stream.write_all(&bytes[..length]);
        }
    }

    fn note(&self, from: IpAddr, what: &[u8]) {
        self.0.lock().unwrap().push((from, what.to_vec()));
    }

    /// Who was seen since the last time.
    pub fn seen(&self) -> Vec<(IpAddr, Vec<u8>)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}
