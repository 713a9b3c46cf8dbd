//! What an anchor is told by the configuration.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_tlog::VerifierKey;

use bulkhead_http::Tls;

/// One place where checkpoints go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorSettings {
    /// Its name.
    pub name: String,
    /// Between two checkpoints.
    pub every: Duration,
    /// Where they go.
    pub kind: AnchorKind,
}

/// Where checkpoints go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnchorKind {
    /// A directory that is there: each checkpoint is a file of its own, `ORIGIN-SIZE-ROOT.checkpoint`.
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// A receiver that takes a POST of a signed note and answers 2xx once it has kept it.
    Http {
        /// The whole URL.
        url: String,
        /// A file of headers, one `Name: value` a line.
        headers: Option<PathBuf>,
        /// Whom to trust, and as whom to come.
        tls: Tls,
    },
    /// A witness (C2SP tlog-witness), which signs what continues what it has seen. Its cosignature is kept in the log.
    Witness {
        /// The URL before `/add-checkpoint`.
        url: String,
        /// The witness's key.
        key: Box<VerifierKey>,
        /// A file of headers, one `Name: value` a line.
        headers: Option<PathBuf>,
        /// Whom to trust, and as whom to come.
        tls: Tls,
    },
}

impl AnchorKind {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "directory",
            Self::Http { .. } => "http",
            Self::Witness { .. } => "witness",
        }
    }
}
