//! What goes wrong between a host and its broker.

/// An error of the channel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Servers, credentials or files that were named are wrong.
    #[error("{0}")]
    Settings(String),
    /// A server cannot be reached, or the connection was lost.
    #[error("{server}: {what}")]
    Connection {
        /// Which server.
        server: String,
        /// What happened.
        what: String,
    },
    /// A server is too old.
    #[error(
        "{server} is nats-server {version}, and a fleet needs {}.{} or newer: older ones lack fixes of NATS's \
         advisories 2026-16 and 2026-18; install one from https://github.com/nats-io/nats-server/releases",
        OLDEST.0,
        OLDEST.1
    )]
    OldServer {
        /// Which server.
        server: String,
        /// What it says it is.
        version: String,
    },
    /// The broker does not accept the credentials.
    #[error(
        "{server} does not accept these credentials ({what}); were they revoked? `bulkhead fleet enrol` gets new ones"
    )]
    Unauthorized {
        /// Which server.
        server: String,
        /// The server's words.
        what: String,
    },
    /// There is no connection now.
    #[error("not connected to any server: {0}")]
    Disconnected(String),
    /// The broker did not answer in time.
    #[error("{0}: no answer in time")]
    Silent(String),
    /// Nobody listens there, or the stream has no leader now.
    #[error("{0}: nobody answers there now")]
    NoResponders(String),
    /// Nobody has answered there for long.
    #[error(
        "{0}: no server has the stream, or it has no leader; `bulkhead fleet push` makes it where the whole directory of \
         `bulkhead fleet account` is"
    )]
    NoStream(String),
    /// The credentials do not allow it.
    #[error("{0}: the credentials do not allow this")]
    Denied(String),
    /// More requests at the same time than are kept track of.
    #[error("too many requests at the same time")]
    Busy,
    /// A server broke the protocol, or sent more than it may.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// JetStream refused a request.
    #[error("{subject}: {description} (code {code})")]
    JetStream {
        /// What was asked.
        subject: String,
        /// NATS's number of the error (`err_code`).
        code: u64,
        /// NATS's words.
        description: String,
    },
    /// What arrived is not what its digest says, or cannot be read.
    #[error("{0}")]
    Content(String),
    /// A file of this machine.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The oldest nats-server that is spoken to: major and minor version.
pub const OLDEST: (u64, u64) = (2, 14);

/// A result of the channel.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether the same request may go well a moment later: a lost connection, an election, a lost answer.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Connection { .. }
                | Self::Disconnected(_)
                | Self::Silent(_)
                | Self::NoResponders(_)
                | Self::Busy
        )
    }

    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File { path: path.display().to_string(), source }
    }
}
