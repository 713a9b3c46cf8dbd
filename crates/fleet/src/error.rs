//! Why something is refused.

use std::io;
use std::path::{Path, PathBuf};

use crate::origin::OriginError;
use crate::repository::Repository;

/// What kind of refusal it is, for metrics and for whoever decides whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Whoever has the files does not answer.
    Down,
    /// Something is past its time: who freshens it does not, or somebody holds back what does.
    Expired,
    /// Something is older than what was verified before.
    Rollback,
    /// Not enough of those who may sign have.
    Signatures,
    /// A file is not the one that was signed.
    Altered,
    /// A file is longer than it may be.
    TooLong,
    /// This host's clock was set back.
    Clock,
    /// A file is none of these, or is not there.
    Malformed,
}

impl Cause {
    /// Its name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Expired => "expired",
            Self::Rollback => "rollback",
            Self::Signatures => "signatures",
            Self::Altered => "altered",
            Self::TooLong => "too-long",
            Self::Clock => "clock",
            Self::Malformed => "malformed",
        }
    }
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What an origin has is not taken.
    #[error("{repository}: {words}")]
    Refused {
        /// Of which repository.
        repository: Repository,
        /// What kind of refusal.
        cause: Cause,
        /// In words.
        words: String,
    },
    /// A file of this machine.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What was asked for cannot be done, and what to do.
    #[error("{0}")]
    Asked(String),
}

impl Error {
    /// What kind it is.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        match self {
            Self::Refused { cause, .. } => *cause,
            Self::File { .. } => Cause::Down,
            Self::Asked(_) => Cause::Malformed,
        }
    }

    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |error| Self::File { path: path.to_owned(), error }
    }

    pub(crate) fn origin(repository: Repository, error: &OriginError) -> Self {
        let cause = match error {
            OriginError::Down(_) => Cause::Down,
            OriginError::TooLong { .. } => Cause::TooLong,
        };
        Self::Refused { repository, cause, words: error.to_string() }
    }

    /// What `tough` says, in words of an operator.
    pub(crate) fn tough(repository: Repository, error: &tough::error::Error) -> Self {
        let (cause, next) = Self::cause_of(error);
        Self::Refused { repository, cause, words: format!("{}{next}", chain(error)) }
    }

    /// What kind it is, and what to do.
    fn cause_of(error: &tough::error::Error) -> (Cause, &'static str) {
        use tough::error::Error as Tough;
        // What is found while a file comes is wrapped as if it had not come.
        let mut within = std::error::Error::source(error);
        while let (Tough::Transport { .. }, Some(inner)) = (error, within) {
            if let Some(found) = inner.downcast_ref::<Tough>() {
                return Self::cause_of(found);
            }
            within = inner.source();
        }
        match error {
            Tough::ExpiredMetadata { .. } => {
                (Cause::Expired, "; `bulkhead fleet publish` freshens it, or somebody holds it back")
            }
            Tough::OlderMetadata { .. }
            | Tough::OlderSnapshotInTimestamp { .. }
            | Tough::SnapshotRoleRollback { .. }
            | Tough::SnapshotRoleMissing { .. } => (Cause::Rollback, ""),
            Tough::VerifyMetadata { .. } | Tough::VerifyTrustedMetadata { .. } => (Cause::Signatures, ""),
            Tough::HashMismatch { .. } | Tough::VersionMismatch { .. } => (Cause::Altered, ""),
            Tough::MaxSizeExceeded { .. } | Tough::MaxUpdatesExceeded { .. } => (Cause::TooLong, ""),
            Tough::SystemTimeSteppedBackward { .. } => (
                Cause::Clock,
                "; set the clock, or if it was ahead before, remove time.json of this host's state of the fleet",
            ),
            Tough::Transport { .. } => (Cause::Down, ""),
            _ => (Cause::Malformed, ""),
        }
    }
}

/// An error and what it comes from.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !words.contains(&more) {
            words += &format!(": {more}");
        }
        next = error.source();
    }
    words
}

/// What comes of something here.
pub type Result<T> = std::result::Result<T, Error>;
