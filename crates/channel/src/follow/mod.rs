//! The agent's side: a fleet's files from the broker, as an [`Origin`].
//!
//! ```text
//! fleet.head (subscription) ─┐
//! DIRECT.GET of the head ────┴▸ Head ─▸ file(path): in the head ▸ by a difference ▸ whole ─▸ SHA-256 ─▸ caller
//!   after each connection, every 30 to 60 s
//! ```
//!
//! No host has a consumer at the server: a stream has 1,000 of them at most.

mod bodies;
mod watch;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_fleet::{Origin, OriginError};
use bytes::Bytes;
use tokio::sync::{Notify, watch as watch_channel};
use tokio::time::{Instant, timeout};

use crate::append::{Appended, append};
use crate::client::{Client, Settings, State};
use crate::error::{Error, Result};
use crate::head::Head;
use crate::identity::Credentials;

/// How long a connection, and then an answer, is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// For how long an answer of the broker says that it is there.
const FRESH: Duration = Duration::from_secs(90);

/// What the agent has already: a file of that hexadecimal SHA-256, if it is there.
type Kept = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

/// A fleet's files, and the way of evidence, over NATS.
pub struct Channel {
    client: Client,
    shared: Arc<Shared>,
    kept: Box<Kept>,
    credentials: Option<std::path::PathBuf>,
    name: String,
    task: tokio::task::JoinHandle<()>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task has learnt.
#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    news: Notify,
    /// How many questions are settled, whatever came of them.
    asked: watch_channel::Sender<u64>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Known {
    head: Option<Arc<Head>>,
    /// When the broker has last said that this is the head.
    said: Option<Instant>,
    /// How many times in a row it was an older one.
    older: u32,
    /// Why the last head was not had.
    problem: Option<String>,
}

/// How files came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers to requests for the head.
    pub heads: u64,
    /// Requests for parts.
    pub parts: u64,
    /// Files that were had by a difference.
    pub differences: u64,
    /// Files for which a difference was tried, and the whole had to be fetched.
    pub fallbacks: u64,
    /// Files that were fetched whole, in parts.
    pub wholes: u64,
}

impl Channel {
    /// Begins to follow, on the tokio runtime that this is called on. That no server is there is no error: it may come.
    ///
    /// # Errors
    /// The settings are wrong.
    pub fn new(settings: Settings) -> Result<Self> {
        // Read here for its errors; each connection reads it again.
        let known_as = settings.credentials.as_deref().map(Credentials::read).transpose()?;
        let name =
            known_as.map_or_else(|| settings.name.clone(), |credentials| credentials.name().to_owned());
        let credentials = settings.credentials.clone();
        let client = Client::new(settings)?;
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(watch::follow(client.clone(), Arc::clone(&shared)));
        Ok(Self { client, shared, kept: Box::new(|_| None), credentials, name, task })
    }

    /// The same, told where to find files that the agent has: differences start there.
    #[must_use]
    pub fn with_kept(mut self, kept: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        self.kept = Box::new(kept);
        self
    }

    /// Stores a batch of this host's evidence; see [`append`].
    ///
    /// # Errors
    /// No answer now; the batch may be stored or not. Call again with the same.
    pub async fn append(&self, last: u64, batch: Bytes) -> Result<Appended> {
        // New credentials may name the host anew.
        let read = self.credentials.as_deref().map(Credentials::read).transpose()?;
        let name = read.as_ref().map_or(&*self.name, Credentials::name);
        append(&self.client, name, last, batch).await
    }

    /// The connection.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How files came so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head that is believed to be the newest, if the broker has said so lately, or does once it is asked: the task
    /// asks it after each connection.
    async fn head(&self) -> Result<Arc<Head>> {
        let mut asked = self.shared.asked.subscribe();
        let is_connected = || matches!(*self.client.state().borrow(), State::Connected(_));
        if let Some(head) = self.shared.fresh().filter(|_| is_connected()) {
            return Ok(head);
        }
        self.client.connected(PATIENCE).await?;
        let answer = async {
            loop {
                if let Some(head) = self.shared.fresh() {
                    return Ok(head);
                }
                if asked.changed().await.is_err() {
                    return Err(Error::Disconnected("the channel has ended".to_owned()));
                }
                if let Some(problem) = self.shared.known().problem.clone() {
                    return Err(Error::Content(problem));
                }
            }
        };
        timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(Error::Silent("the fleet's head".to_owned())))
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The head, if the broker has said lately that it is the newest.
    fn fresh(&self) -> Option<Arc<Head>> {
        let known = self.known();
        let is_fresh = known.said.is_some_and(|said| said.elapsed() < FRESH);
        known.head.clone().filter(|_| is_fresh)
    }
}

#[async_trait]
impl Origin for Channel {
    async fn file(&self, path: &str, longest: u64) -> std::result::Result<Option<Vec<u8>>, OriginError> {
        let down = |error: Error| OriginError::Down(error.to_string());
        // What has not changed is asked for again and again: that the head says so suffices.
        let head = self.head().await.map_err(down)?;
        let Some(file) = head.files.get(path) else { return Ok(None) };
        if file.length > longest {
            return Err(OriginError::TooLong { path: path.to_owned(), longest });
        }
        self.fetch(&head, file).await.map(Some).map_err(down)
    }

    async fn changed(&self) {
        self.shared.news.notified().await;
    }
}
