//! What a sink is told by the configuration.

use std::path::PathBuf;

use bulkhead_export::Format;
use bulkhead_http::Tls;

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name, also of its position's file: letters, digits, `-` and `_`.
    pub name: String,
    /// The form of records.
    pub format: Format,
    /// Where a sink begins that has no position yet.
    pub from: From,
    /// Where records go.
    pub kind: Kind,
}

/// Where a sink begins that has no position yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// With the first record that the event log has.
    #[default]
    Beginning,
    /// With what comes from now on.
    Now,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of JSON lines. At `rotate_bytes` it becomes `PATH.1`, which becomes `PATH.2`, up to `keep` of them.
    File {
        /// The file.
        path: PathBuf,
        /// The size at which it is put aside.
        rotate_bytes: u64,
        /// How many files that were put aside are kept.
        keep: u32,
    },
    /// Standard output: JSON lines.
    Stdout,
    /// A Unix stream socket that somebody listens on: JSON lines.
    Socket {
        /// The socket.
        path: PathBuf,
    },
    /// A Unix socket of a syslog daemon, such as `/dev/log`: a datagram socket, else a stream.
    SyslogUnix {
        /// The socket.
        path: PathBuf,
    },
    /// Syslog over TLS (RFC 5425).
    SyslogTls {
        /// Name or address, which the certificate must be for.
        host: String,
        /// TCP port.
        port: u16,
        /// Whom to trust, and as whom to come.
        tls: Tls,
    },
    /// OTLP over HTTP.
    Otlp {
        /// The whole URL, such as `https://collector:4318/v1/logs`.
        url: String,
        /// A file of headers, one `Name: value` a line; it is read at each connection.
        headers: Option<PathBuf>,
        /// Whom to trust, and as whom to come.
        tls: Tls,
        /// This host's name.
        host: String,
    },
}

impl Kind {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Stdout => "stdout",
            Self::Socket { .. } => "socket",
            Self::SyslogUnix { .. } | Self::SyslogTls { .. } => "syslog",
            Self::Otlp { .. } => "otlp",
        }
    }
}
