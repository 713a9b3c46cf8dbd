//! An [`Origin`] as `tough` asks for files.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tough::schema::{Root, Signed, Timestamp};
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use crate::error::Cause;
use crate::origin::{Origin, OriginError};
use crate::stamp::Expected;

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
    pub expected: Expected,
    /// The root and the timestamp that were verified last.
    pub known: Option<(Signed<Root>, String)>,
    /// What came the last time.
    pub before: Known,
    /// What comes this time.
    pub now: Known,
    /// Why the origin has not given what it was asked for, the first time.
    pub failed: Arc<Mutex<Option<OriginError>>>,
    /// Why a file that came is not taken, the first time.
    pub refused: Arc<Mutex<Option<(Cause, String)>>>,
    /// Whether a root came that is newer than those known before.
    has_new_root: Arc<AtomicBool>,
}

/// A file of metadata as far as it is needed here.
#[derive(Deserialize)]
struct Versioned {
    signed: Body,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    delegations: Option<Value>,
}

impl FromOrigin {
    pub(crate) fn new(
        origin: Arc<dyn Origin>,
        expected: Expected,
        before: Known,
        known: Option<(Signed<Root>, String)>,
    ) -> Self {
        Self {
            origin,
            expected,
            known,
            before,
            now: Known::default(),
            failed: Arc::default(),
            refused: Arc::default(),
            has_new_root: Arc::default(),
        }
    }

    /// Whether a file is taken as far as it can be said before it is verified; if not, why.
    fn taken(&self, path: &str, bytes: &[u8]) -> Result<(), (Cause, String)> {
        self.expected.fits(bytes).map_err(|words| (Cause::Altered, format!("{path}: {words}")))?;
        // `tough` asks for all roles that it names, and for theirs, before it can be said that nobody is asked to whom.
        let has_delegations = |file: Versioned| {
            let roles = file.signed.delegations.unwrap_or_default();
            roles["roles"].as_array().is_some_and(|roles| !roles.is_empty())
                || !roles["succinct_roles"].is_null()
        };
        if path.ends_with(".targets.json") && serde_json::from_slice(bytes).is_ok_and(has_delegations) {
            let words = format!("{path}: its targets are delegated, and nobody is asked to whom");
            return Err((Cause::Malformed, words));
        }
        Ok(())
    }

    /// The timestamp to go on with: one that says something else under the version that is known is not taken in its place,
    /// whoever has signed it (specification 1.0, section 5.4.3). With another root the key that signs may be another, and
    /// versions are counted anew.
    fn timestamp(&self, bytes: Bytes) -> Bytes {
        let read = |bytes: &[u8]| serde_json::from_slice::<Signed<Timestamp>>(bytes).ok();
        let Some((root, known)) = &self.known else { return bytes };
        if self.has_new_root.load(Ordering::Relaxed) {
            return bytes;
        }
        match (read(&bytes), read(known.as_bytes())) {
            (Some(came), Some(before))
                if came.signed.version == before.signed.version
                    && root.signed.verify_role(&came).is_ok()
                    && root.signed.verify_role(&before).is_ok() =>
            {
                known.clone().into()
            }
            _ => bytes,
        }
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
        let refused =
            |url, words: String| Err(TransportError::new_with_cause(TransportErrorKind::Other, url, words));
        if let Some((_, words)) = held(&self.refused).clone() {
            return refused(url, words);
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
        if let Err((cause, words)) = self.taken(&path, &bytes) {
            held(&self.refused).get_or_insert((cause, words.clone()));
            return refused(url, words);
        }
        if path.ends_with(".root.json") {
            self.has_new_root.store(true, Ordering::Relaxed);
        }
        let bytes = if path.ends_with("/timestamp.json") { self.timestamp(bytes) } else { bytes };
        if is_fixed {
            held(&self.now).insert(path, bytes.clone());
        }
        Ok(Box::pin(futures_util::stream::iter([Ok(bytes)])))
    }
}
