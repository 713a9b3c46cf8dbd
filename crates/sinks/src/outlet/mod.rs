//! What takes records to a receiver.

mod file;
mod lines;
mod otlp;
mod stream;
mod syslog;

use std::io;
use std::time::Duration;

use bulkhead_export::Exported;
use bulkhead_http::{Answer, Client};

pub(crate) use self::file::named;
use crate::settings::{Kind, Settings};

/// How long a receiver may take to let a connection or bytes in.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Takes records to a receiver. After an error it is dropped, and another one is opened.
pub(crate) trait Outlet: Send {
    /// Gives records, in order. How many of them, from the first on, it has given, and how many of those the receiver
    /// refused for good.
    fn send(&mut self, records: &[Exported]) -> Result<Sent, Failure>;

    /// How long after it was sent a record is the receiver's, if nothing has failed by then. Zero: it has confirmed.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether the receiver is still there.
    fn check(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Ends it, and waits within a limit until the receiver has everything. An error: that is not known.
    fn finish(&mut self, _limit: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// What became of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// How many, from the first on, are not to be sent again.
    pub taken: usize,
    /// How many of these the receiver has refused for good.
    pub refused: u64,
}

/// Why records were not sent.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Failure {
    /// What happened.
    pub error: io::Error,
    /// When the receiver wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// An answer that is no success.
    pub(crate) fn answered(client: &Client, answer: &Answer) -> Self {
        let error = io::Error::other(format!("{} answers {}", client.name(), answer.status));
        Self { error, retry_after: answer.retry_after }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { error, retry_after: None }
    }
}

/// All of them were sent.
fn all(records: &[Exported]) -> Sent {
    Sent { taken: records.len(), refused: 0 }
}

/// Opens what takes records to a sink's receiver.
pub(crate) fn open(settings: &Settings) -> io::Result<Box<dyn Outlet>> {
    let format = settings.format;
    Ok(match &settings.kind {
        Kind::File { path, rotate_bytes, keep } => {
            Box::new(file::Rotated::open(path, *rotate_bytes, *keep, format)?)
        }
        Kind::Stdout => Box::new(lines::Stdout::new(format)),
        Kind::Socket { path } => Box::new(lines::Socket::connect(path, format)?),
        Kind::SyslogUnix { path } => syslog::unix(path, format)?,
        Kind::SyslogTls { host, port, tls } => Box::new(syslog::Tls::connect(host, *port, tls, format)?),
        Kind::Otlp { url, headers, tls, host } => {
            Box::new(otlp::Http::new(url, headers.as_deref(), tls, host, format)?)
        }
    })
}
