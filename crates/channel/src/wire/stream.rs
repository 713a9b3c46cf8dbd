//! Where a server is, and the bytes to and from it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bulkhead_http::Tls;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Frame, Frames};
use crate::error::{Error, Result};

/// NATS's port.
const PORT: u16 = 4222;

/// How much is read at once, in bytes.
const READ: usize = 16 << 10;

/// A server's address: `tls://host:port`, or `nats://host:port` without encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    is_tls: bool,
    host: String,
    port: u16,
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::Settings(format!(
                "`{text}` is no server: write tls://HOST:PORT, or nats://HOST:PORT without TLS"
            ))
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let is_tls = match scheme {
            "tls" => true,
            "nats" => false,
            _ => return Err(wrong()),
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
                (host, rest.strip_prefix(':'))
            }
            None => match rest.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong()))?;
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(wrong());
        }
        Ok(Self { is_tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "tls" } else { "nats" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// That something went wrong with this server.
    pub(crate) fn failed(&self, what: impl fmt::Display) -> Error {
        Error::Connection { server: self.to_string(), what: what.to_string() }
    }
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A connection to a server.
pub(crate) struct Stream {
    bytes: Box<dyn Bytes>,
    pub(crate) frames: Frames,
}

impl Stream {
    /// Connects, without a word yet.
    pub(crate) async fn open(address: &Address) -> Result<Self> {
        let tcp = TcpStream::connect((&*address.host, address.port)).await;
        let tcp = tcp.map_err(|error| address.failed(error))?;
        tcp.set_nodelay(true).map_err(|error| address.failed(error))?;
        Ok(Self { bytes: Box::new(tcp), frames: Frames::default() })
    }

    /// Goes on with TLS.
    pub(crate) async fn secure(self, address: &Address, tls: &Tls) -> Result<Self> {
        // What came unencrypted behind the greeting would be believed as if it had come within TLS.
        if self.frames.is_partial() {
            return Err(address.failed("sent something between its greeting and TLS"));
        }
        let configuration = bulkhead_http::configuration(tls).map_err(|error| address.failed(error))?;
        let name = ServerName::try_from(address.host.clone()).map_err(|error| address.failed(error))?;
        let connected = TlsConnector::from(Arc::new(configuration)).connect(name, self.bytes).await;
        let bytes = connected.map_err(|error| address.failed(format!("TLS: {error}")))?;
        Ok(Self { bytes: Box::new(bytes), frames: Frames::default() })
    }

    /// The next frame. Dropped half-way, it loses nothing.
    ///
    /// # Errors
    /// The server has closed the connection or broken the protocol.
    pub(crate) async fn next(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.frames.next()? {
                return Ok(frame);
            }
            self.frames.buffer.reserve(READ);
            let read = self.bytes.read_buf(&mut self.frames.buffer).await;
            match read {
                Ok(0) => return Err(Error::Disconnected("the server closed the connection".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(Error::Disconnected(error.to_string())),
            }
        }
    }

    /// Sends bytes that are whole frames.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = async {
            self.bytes.write_all(bytes).await?;
            self.bytes.flush().await
        };
        sent.await.map_err(|error| Error::Disconnected(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown) in [
            ("tls://nats-1.example.com", "tls://nats-1.example.com:4222"),
            ("nats://127.0.0.1:14222", "nats://127.0.0.1:14222"),
            ("tls://[2001:db8::1]:4223", "tls://[2001:db8::1]:4223"),
            ("tls://[::1]/", "tls://[::1]:4222"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for wrong in
            ["nats-1", "http://nats-1", "tls://", "tls://host:port", "tls://a@b", "tls://[::1", "tls://:4222"]
        {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
