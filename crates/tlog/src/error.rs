//! What can go wrong, with the file it went wrong in.

use std::io;
use std::path::{Path, PathBuf};

/// An error of a log on disk, a note or a proof.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused. Nothing signed was changed; the same call may be tried again.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another writer has the log open.
    #[error("{}: another process writes this log; a log has one writer", path.display())]
    InUse {
        /// The log's directory.
        path: PathBuf,
    },
    /// A file is not what the checkpoint says, or is no such file at all.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// An entry does not fit the format.
    #[error("entry has {0} bytes; a log's entry has at most 65535")]
    TooLong(usize),
    /// The log has no such entry, or no such size.
    #[error("index {index} is beyond the log's {size} signed entries")]
    Beyond {
        /// What was asked for.
        index: u64,
        /// Entries that the checkpoint covers.
        size: u64,
    },
    /// The entry was removed by pruning, or what is asked for needs a hash that was.
    #[error("index {index} was pruned; the log begins at entry {first}")]
    Pruned {
        /// What was asked for.
        index: u64,
        /// The first entry that is still there.
        first: u64,
    },
    /// A key's text, or a name for one, is malformed.
    #[error("key: {0}")]
    Key(String),
    /// A signed note, checkpoint or proof is malformed.
    #[error("{kind}, line {line}: {what}")]
    Malformed {
        /// What was read.
        kind: &'static str,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A signature by a known key does not fit the text.
    #[error("signature of {0} does not fit the text")]
    BadSignature(String),
    /// None of the given keys signed.
    #[error("no signature by any of the given keys ({0})")]
    Unsigned(String),
    /// A proof does not prove what it should.
    #[error("proof does not hold: {0}")]
    Proof(&'static str),
    /// Pruning was asked for to where it cannot go.
    #[error("cannot prune before entry {0}: {1}")]
    Prune(u64, &'static str),
}

impl Error {
    /// A mapper of the system's errors.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn malformed(kind: &'static str, line: usize, what: impl Into<String>) -> Self {
        Self::Malformed { kind, line, what: what.into() }
    }

    /// Whether it says something of the log, note or proof that was read: that it is not what it should be, or not
    /// whole. If not, the system has refused to say, or what was asked for is nothing that a log can have.
    #[must_use]
    pub fn is_of_the_log(&self) -> bool {
        match self {
            Self::Io { .. } => self.is_absent(),
            Self::Damaged { .. }
            | Self::Malformed { .. }
            | Self::BadSignature(_)
            | Self::Unsigned(_)
            | Self::Proof(_) => true,
            Self::InUse { .. }
            | Self::TooLong(_)
            | Self::Beyond { .. }
            | Self::Pruned { .. }
            | Self::Key(_)
            | Self::Prune(..) => false,
        }
    }

    /// Whether a file was asked for that is not there.
    pub(crate) fn is_absent(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), NotFound | NotADirectory))
    }
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
