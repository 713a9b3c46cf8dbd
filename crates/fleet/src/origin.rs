//! Where files of the repositories come from. Nobody there is believed: whatever comes is verified.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bulkhead_http::{Client, StatusCode, Tls};

use crate::files::regular;

/// Why a file was not had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OriginError {
    /// Who has the files does not answer, or not as such do: ask again later.
    #[error("{0}")]
    Down(String),
    /// It is longer than it may be.
    #[error("{path} is longer than {longest} bytes")]
    TooLong {
        /// The file, by its path below the fleet directory.
        path: String,
        /// The most that was asked for, in bytes.
        longest: u64,
    },
}

/// Where files of the repositories come from.
#[async_trait]
pub trait Origin: fmt::Debug + Send + Sync {
    /// One file, by its path below the fleet directory, such as `policy/metadata/timestamp.json`; at most `longest`
    /// bytes of it are held. None: it is not there.
    ///
    /// # Errors
    /// If it cannot be had, or is longer.
    async fn file(&self, path: &str, longest: u64) -> Result<Option<Vec<u8>>, OriginError>;

    /// Waits until there may be news: a head came, or it is connected anew. An origin that is only ever asked waits for
    /// ever.
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}

/// A fleet directory on a file system.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory at a path.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

#[async_trait]
impl Origin for Directory {
    async fn file(&self, path: &str, longest: u64) -> Result<Option<Vec<u8>>, OriginError> {
        let file = self.0.join(path);
        let shown = file.display().to_string();
        // A file system that hangs keeps nothing else from going on.
        let read = tokio::task::spawn_blocking(move || regular(&file, longest)).await;
        match read.map_err(io::Error::other).flatten() {
            Ok(bytes) if bytes.len() as u64 > longest => {
                Err(OriginError::TooLong { path: path.to_owned(), longest })
            }
            Ok(bytes) => Ok(Some(bytes)),
            // A fleet directory that is not there at all is no repository without news.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.0.is_dir() => Ok(None),
            Err(error) => Err(OriginError::Down(format!("{shown}: {error}"))),
        }
    }
}

/// A fleet directory that a web server serves.
#[derive(Clone)]
pub struct Https(Arc<Client>);

impl Https {
    /// What is below a URL. Files of TLS are read now.
    ///
    /// # Errors
    /// If one of them cannot be read or understood.
    pub fn new(url: &str, tls: &Tls) -> io::Result<Self> {
        Client::with(url, Vec::new(), tls).map(Arc::new).map(Self)
    }
}

impl fmt::Debug for Https {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Https({})", self.0.name())
    }
}

#[async_trait]
impl Origin for Https {
    async fn file(&self, path: &str, longest: u64) -> Result<Option<Vec<u8>>, OriginError> {
        let client = self.0.at(&format!("/{path}"));
        let name = client.name().to_owned();
        let down = |error: String| OriginError::Down(error);
        let answer = tokio::task::spawn_blocking(move || client.get(longest)).await;
        let answer =
            answer.map_err(|error| down(error.to_string()))?.map_err(|error| down(error.to_string()))?;
        match answer.status {
            StatusCode::OK => Ok(Some(answer.body)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(down(format!("{name}: it answers {status}"))),
        }
    }
}
