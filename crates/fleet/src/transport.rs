//! An [`Origin`] as `tough` asks for files.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use crate::origin::{Origin, OriginError};
use crate::stamp::Stamp;

/// No metadata is longer, in bytes.
pub(crate) const METADATA: u64 = 1 << 20;

/// No answer takes longer, and a second more for as many bytes as these.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that come in a second at least.
const RATE: u64 = 256 << 10;

/// Files with a version in their names, as they came last: they never change.
pub(crate) type Known = Arc<Mutex<HashMap<String, Bytes>>>;

/// Metadata of an origin.
#[derive(Clone, Debug)]
pub(crate) struct FromOrigin {
    pub origin: Arc<dyn Origin>,
    /// Of what all of it must be.
    pub stamp: Stamp,
    /// What came the last time.
    pub before: Known,
    /// What comes this time.
    pub now: Known,
    /// Why the origin has not given what it was asked for, the first time.
    pub failed: Arc<Mutex<Option<OriginError>>>,
    /// Which file is of another repository or fleet.
    pub foreign: Arc<Mutex<Option<String>>>,
}

impl FromOrigin {
    pub(crate) fn new(origin: Arc<dyn Origin>, stamp: Stamp, before: Known) -> Self {
        Self { origin, stamp, before, now: Known::default(), failed: Arc::default(), foreign: Arc::default() }
    }
}

/// One file of an origin, or why it was not had in time.
pub(crate) async fn within(
    origin: &dyn Origin,
    path: &str,
    longest: u64,
) -> Result<Option<Vec<u8>>, OriginError> {
    let patience = PATIENCE + Duration::from_secs(longest / RATE);
    let answer = tokio::time::timeout(patience, origin.file(path, longest)).await;
    let seconds = patience.as_secs();
    answer.unwrap_or_else(|_| Err(OriginError::Down(format!("{path}: no answer within {seconds} s"))))
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Transport for FromOrigin {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let path = url.path().trim_start_matches('/').to_owned();
        let is_fixed = path.ends_with(".snapshot.json") || path.ends_with(".targets.json");
        // Whoever does not answer is not asked on.
        if let Some(down @ OriginError::Down(_)) = held(&self.failed).clone() {
            return Err(TransportError::new_with_cause(TransportErrorKind::Other, url, down));
        }
        // After a file of another fleet nothing is taken, or a root that is none would count as held back.
        let foreign =
            |url, words: String| Err(TransportError::new_with_cause(TransportErrorKind::Other, url, words));
        if let Some(words) = held(&self.foreign).clone() {
            return foreign(url, words);
        }
        let known = if is_fixed { held(&self.before).get(&path).cloned() } else { None };
        let bytes = match known {
            Some(bytes) => bytes,
            None => match within(&*self.origin, &path, METADATA).await {
                Ok(Some(bytes)) => bytes.into(),
                Ok(None) => {
                    let kind = TransportErrorKind::FileNotFound;
                    return Err(TransportError::new_with_cause(kind, url, "it is not there"));
                }
                Err(error) => {
                    held(&self.failed).get_or_insert(error.clone());
                    return Err(TransportError::new_with_cause(TransportErrorKind::Other, url, error));
                }
            },
        };
        // Before `tough` keeps any of it.
        if let Err(words) = self.stamp.fits(&bytes) {
            let words = format!("{path}: {words}");
            held(&self.foreign).get_or_insert(words.clone());
            return foreign(url, words);
        }
        if is_fixed {
            held(&self.now).insert(path, bytes.clone());
        }
        Ok(Box::pin(futures_util::stream::iter([Ok(bytes)])))
    }
}
