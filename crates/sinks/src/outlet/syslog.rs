//! Syslog, to a daemon on this host and over TLS.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use bulkhead_export::{Exported, Format, syslog};
use rustls::{ClientConnection, StreamOwned};

use super::stream::{self, GRACE};
use super::{Failure, Outlet, PATIENCE, Sent, all, file::named};

/// A daemon's socket: most have a datagram socket.
pub(crate) fn unix(path: &Path, format: Format) -> io::Result<Box<dyn Outlet>> {
    let socket = UnixDatagram::unbound()?;
    match socket.connect(path) {
        Ok(()) => {
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Box::new(Datagrams { socket, format }))
        }
        // EPROTOTYPE: it is a stream.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
            Ok(Box::new(Unix { stream: stream::connect_unix(path)?, format }))
        }
        Err(error) => Err(named(path, &error)),
    }
}

fn framed(records: &[Exported], format: Format) -> Vec<u8> {
    records.iter().flat_map(|exported| syslog::framed(exported, format)).collect()
}

/// A daemon's datagram socket.
struct Datagrams {
    socket: UnixDatagram,
    format: Format,
}

impl Outlet for Datagrams {
    fn send(&mut self, records: &[Exported]) -> Result<Sent, Failure> {
        let mut refused = 0;
        for exported in records {
            match self.socket.send(&syslog::message(exported, self.format)) {
                Ok(_) => {}
                // However often it is tried, it stays too long for a datagram.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
                    refused += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Sent { taken: records.len(), refused })
    }

    fn grace(&self) -> Duration {
        GRACE
    }
}

/// A daemon's stream socket.
struct Unix {
    stream: UnixStream,
    format: Format,
}

impl Outlet for Unix {
    fn send(&mut self, records: &[Exported]) -> Result<Sent, Failure> {
        self.stream.write_all(&framed(records, self.format))?;
        Ok(all(records))
    }

    fn grace(&self) -> Duration {
        GRACE
    }

    fn check(&mut self) -> io::Result<()> {
        stream::check(&mut self.stream)
    }

    fn finish(&mut self, limit: Duration) -> io::Result<()> {
        stream::finish(&mut self.stream, limit)
    }
}

/// Syslog over TLS (RFC 5425).
pub(crate) struct Tls {
    stream: StreamOwned<ClientConnection, TcpStream>,
    format: Format,
}

impl Tls {
    pub(crate) fn connect(
        host: &str,
        port: u16,
        tls: &bulkhead_http::Tls,
        format: Format,
    ) -> io::Result<Self> {
        let tcp = stream::connect(host, port)?;
        Ok(Self { stream: bulkhead_http::handshake(tls, host, tcp)?, format })
    }
}

impl Outlet for Tls {
    fn send(&mut self, records: &[Exported]) -> Result<Sent, Failure> {
        self.stream.write_all(&framed(records, self.format))?;
        self.stream.flush()?;
        Ok(all(records))
    }

    fn grace(&self) -> Duration {
        GRACE
    }

    fn check(&mut self) -> io::Result<()> {
        // Session tickets, and whatever else TLS has to say.
        self.stream.sock.set_nonblocking(true)?;
        let found = loop {
            match self.stream.conn.read_tls(&mut self.stream.sock) {
                Ok(0) => break Err(stream::ended()),
                Ok(_) => {
                    let state = self.stream.conn.process_new_packets().map_err(io::Error::other)?;
                    if state.peer_has_closed() {
                        break Err(stream::ended());
                    }
                    let length = state.plaintext_bytes_to_read();
                    io::Read::read_exact(&mut self.stream.conn.reader(), &mut vec![0; length])?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.stream.sock.set_nonblocking(false)?;
        found
    }

    fn finish(&mut self, limit: Duration) -> io::Result<()> {
        self.stream.conn.send_close_notify();
        self.stream.flush()?;
        stream::finish(&mut self.stream.sock, limit)
    }
}
