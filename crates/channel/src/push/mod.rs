//! The operator's side: puts what is new in a fleet directory on the broker.
//!
//! Parts come first and the head last, on the condition that nobody else has put one meanwhile. So a host finds all that
//! a head speaks of, and of two pushes at the same time one is refused. What the head before the last one spoke of is
//! removed.

mod directory;
mod make;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::head::{Head, PART};
use crate::jetstream::{Acknowledged, api, ensure_stream, last, store};
use crate::layout::{FILES, HEAD, part, parts, streams};

/// For how long an election or a lost connection is waited out.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a push did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Whether there was anything new.
    pub is_new: bool,
    /// Files that the head speaks of.
    pub files: usize,
    /// Bytes that were stored in parts.
    pub stored: u64,
    /// Bytes of the head, which every host gets.
    pub head: usize,
    /// Bytes of each difference, by the digests that it leads from and to.
    pub differences: Vec<(String, String, usize)>,
}

/// Makes the streams, or has existing ones be as they must, with so many copies of each. The client's credentials are
/// those of [`Role::Streams`](crate::Role::Streams).
///
/// # Errors
/// The credentials do not allow it, or the servers are too few.
pub async fn prepare(client: &Client, copies: u8) -> Result<()> {
    for (name, wanted) in streams(copies) {
        patiently(|| ensure_stream(client, name, &wanted)).await?;
    }
    Ok(())
}

/// Puts what is new in a fleet directory on the broker.
///
/// # Errors
/// The directory is none of a fleet, somebody else pushed at the same time, or the broker does not answer for a minute.
pub async fn push(client: &Client, directory: &Path) -> Result<Pushed> {
    let before = patiently(|| last(client, FILES, HEAD)).await.map_err(|error| match error {
        Error::NoResponders(what) => Error::NoStream(what),
        other => other,
    })?;
    let old = match &before {
        // One that nobody can read is replaced like any other.
        Some(stored) => Head::read(&stored.payload).unwrap_or_else(|error| {
            tracing::warn!("the head at the broker is replaced: {error}");
            Head::default()
        }),
        None => Head::default(),
    };
    let path = directory.to_owned();
    let made = tokio::task::spawn_blocking(move || make::make(&path, &old).map(|made| (made, old))).await;
    let (made, old) = made.map_err(|error| Error::Content(error.to_string()))??;
    let mut pushed =
        Pushed { files: made.head.files.len(), differences: made.sizes.clone(), ..Pushed::default() };
    if made.head.files == old.files && made.head.differences == old.differences {
        return Ok(pushed);
    }
    pushed.is_new = true;
    let stored_before = old.parts();
    for (name, bytes) in &made.bodies {
        if stored_before.contains_key(name) {
            continue;
        }
        for (number, bytes) in (0_u32..).zip(bytes.chunks(PART)) {
            let (subject, bytes) = (part(name, number), Bytes::copy_from_slice(bytes));
            patiently(|| store(client, &subject, None, bytes.clone())).await?;
        }
        pushed.stored += bytes.len() as u64;
    }
    let head = Bytes::from(made.head.write()?);
    // What no host could read must not be where all hosts look.
    Head::read(&head)?;
    pushed.head = head.len();
    let expected = before.map_or(0, |stored| stored.sequence);
    match patiently(|| store(client, HEAD, Some(expected), head.clone())).await? {
        Acknowledged::Stored(_) => {}
        Acknowledged::Otherwise(_) => {
            // The answer to an earlier attempt may have been lost.
            let now = patiently(|| last(client, FILES, HEAD)).await?;
            if now.is_none_or(|now| now.payload != head) {
                return Err(Error::Content(
                    "somebody else has pushed at the same time: push again".to_owned(),
                ));
            }
        }
    }
    let needed: BTreeMap<String, u32> = stored_before.into_iter().chain(made.head.parts()).collect();
    // What stays too long does no harm.
    if let Err(error) = patiently(|| clear(client, &needed)).await {
        tracing::warn!("parts that nobody needs any more stay at the broker: {error}");
    }
    Ok(pushed)
}

/// Removes parts that neither this head nor the one before speaks of.
async fn clear(client: &Client, needed: &BTreeMap<String, u32>) -> Result<()> {
    let filter = json!({ "subjects_filter": parts("*") });
    let info = api(client, &format!("STREAM.INFO.{FILES}"), &filter).await?;
    let subjects = info.pointer("/state/subjects").and_then(Value::as_object);
    let names = subjects
        .into_iter()
        .flat_map(|subjects| subjects.keys())
        .filter_map(|subject| subject.split('.').nth(3));
    let mut over: Vec<&str> = names.filter(|name| !needed.contains_key(*name)).collect();
    over.dedup();
    for name in over {
        let filter = json!({ "filter": parts(name) });
        api(client, &format!("STREAM.PURGE.{FILES}"), &filter).await?;
    }
    Ok(())
}

/// Does again what fails while the broker elects or is away.
pub(crate) async fn patiently<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> Result<T> {
    let until = Instant::now() + PATIENCE;
    let mut pause = 50;
    loop {
        match attempt().await {
            Err(error) if error.is_passing() && Instant::now() < until => tracing::debug!("{error}"),
            other => return other,
        }
        sleep(Duration::from_millis(pause)).await;
        pause = (pause * 2).min(1_000);
    }
}
