//! Connections that confirm nothing.
//!
//! A receiver at the other end of a stream does not say what it has got. What is known is that a connection ends when
//! its receiver does, and that the kernel ends one whose bytes are not acknowledged within [`PATIENCE`]. So what was
//! sent longer ago than [`GRACE`], over a connection that is still there, the receiver has got.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::PATIENCE;

/// How long after it was sent something is the receiver's. Longer than the kernel waits for acknowledgements.
pub(crate) const GRACE: Duration = Duration::from_secs(12);

/// A stream that can be asked for news without waiting for it.
pub(crate) trait Stream: Read + Write + Send {
    fn set_waiting(&self, waits: bool) -> io::Result<()>;
    fn set_read_timeout(&self, limit: Duration) -> io::Result<()>;
    fn end_writing(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_waiting(&self, waits: bool) -> io::Result<()> {
        self.set_nonblocking(!waits)
    }

    fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        Self::set_read_timeout(self, Some(limit))
    }

    fn end_writing(&self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn set_waiting(&self, waits: bool) -> io::Result<()> {
        self.set_nonblocking(!waits)
    }

    fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        Self::set_read_timeout(self, Some(limit))
    }

    fn end_writing(&self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}

/// Connects to one of a name's addresses.
pub(crate) fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                let socket = SockRef::from(&stream);
                socket.set_tcp_user_timeout(Some(PATIENCE))?;
                let every = PATIENCE / 2;
                socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(every).with_interval(every))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(last)
}

/// Connects to a Unix stream socket.
pub(crate) fn connect_unix(path: &std::path::Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // `connect` waits without limit for a listener that accepts nobody; this asks once (unix(7), EAGAIN).
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?).map_err(|error| super::file::named(path, &error))?;
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// Whether a receiver that is not expected to say anything is still there; what it says is not heard.
pub(crate) fn check(stream: &mut impl Stream) -> io::Result<()> {
    stream.set_waiting(false)?;
    let mut heard = [0; 4096];
    let found = loop {
        match stream.read(&mut heard) {
            Ok(0) => break Err(ended()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    stream.set_waiting(true)?;
    found
}

/// Tells a receiver that nothing more comes, and waits until it ends the connection too: then it has read it all.
pub(crate) fn finish(stream: &mut impl Stream, limit: Duration) -> io::Result<()> {
    stream.end_writing()?;
    let until = Instant::now() + limit;
    let mut heard = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(left)?;
        match stream.read(&mut heard) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The receiver has ended the connection.
pub(crate) fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the receiver has ended the connection")
}
