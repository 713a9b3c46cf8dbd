//! A connection that ends in time and reads no more than it may.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Why there is nothing more to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// There is no connection.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The time is over.
    #[error("no answer within {0} ms")]
    Silent(u128),
    /// The server has closed.
    #[error("closed by the server")]
    Closed,
    /// The server has reset the connection.
    #[error("reset by the server")]
    Reset,
    /// The server says more than a handshake needs.
    #[error("more than {0} bytes before the handshake ended")]
    TooLong(usize),
    /// The system refuses.
    #[error("{0}")]
    System(String),
}

/// The connection.
pub(crate) struct Connection {
    stream: TcpStream,
    began: Instant,
    until: Instant,
    /// Bytes that may still be read, and what that was at first.
    left: usize,
    most: usize,
}

impl Connection {
    /// Connects; all that follows is to be done within `limit` of now.
    pub(crate) fn open(to: SocketAddr, limit: Duration, most: usize) -> Result<Self, Broken> {
        let began = Instant::now();
        let stream = TcpStream::connect_timeout(&to, limit).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Broken::Silent(limit.as_millis()),
            _ => Broken::Unreachable(plain(&error)),
        })?;
        // What is written late is not written in time.
        let _ = stream.set_nodelay(true);
        Ok(Self { stream, began, until: began + limit, left: most, most })
    }

    /// Reads what there is, one byte at least, no later than the connection's end or `by`.
    pub(crate) fn read(&mut self, buffer: &mut [u8], by: Option<Instant>) -> Result<usize, Broken> {
        let room = buffer.len().min(self.left);
        if room == 0 {
            return Err(Broken::TooLong(self.most));
        }
        let until = by.map_or(self.until, |by| by.min(self.until));
        loop {
            let wait = self.wait(until)?;
            self.stream.set_read_timeout(Some(wait)).map_err(|error| Broken::System(plain(&error)))?;
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => return Err(Broken::Closed),
                Ok(length) => {
                    self.left -= length;
                    return Ok(length);
                }
                Err(error) => self.fail(&error)?,
            }
        }
    }

    /// Reads exactly that many bytes.
    pub(crate) fn read_exactly(&mut self, buffer: &mut [u8]) -> Result<(), Broken> {
        let mut filled = 0;
        while filled < buffer.len() {
            filled += self.read(&mut buffer[filled..], None)?;
        }
        Ok(())
    }

    /// Writes all of it.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let wait = self.wait(self.until)?;
            self.stream.set_write_timeout(Some(wait)).map_err(|error| Broken::System(plain(&error)))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(Broken::Closed),
                Ok(length) => bytes = &bytes[length..],
                Err(error) => self.fail(&error)?,
            }
        }
        Ok(())
    }

    /// How long there is to wait.
    fn wait(&self, until: Instant) -> Result<Duration, Broken> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Broken::Silent(self.began.elapsed().as_millis())) } else { Ok(left) }
    }

    /// What an error means; nothing, if it is to be tried again.
    fn fail(&self, error: &io::Error) -> Result<(), Broken> {
        match error.kind() {
            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(()),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Err(Broken::Reset),
            _ => Err(Broken::System(plain(error))),
        }
    }
}

/// An error without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
