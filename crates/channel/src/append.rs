//! Evidence: a host's batches, each stored once.
//!
//! A batch is stored on the condition that the last one of this host has the number that the host knows of. Whoever
//! sends it again, after minutes or months, is told that another is there: its own. So nothing is stored twice, whatever
//! answer was lost, and no window of time has to be remembered by the broker.

use bytes::Bytes;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::jetstream::{Acknowledged, store};
use crate::layout::events_of;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is stored under that number.
    Stored(u64),
    /// It was stored before, under that number: the answer had been lost.
    Already(u64),
    /// The broker has less than this host was told of: its last batch has that number (0: none). It was restored from
    /// a backup, or made anew. Nothing was stored.
    Behind(u64),
}

/// Stores a batch of a host, if its last one has the number `last` (0: none yet).
///
/// Whoever calls has one batch outstanding, and has on disk what it is before the first attempt: a batch that was
/// attempted is sent again as it was, until this says what became of it.
///
/// # Errors
/// No answer now; the batch may be stored or not. Call again with the same.
pub async fn append(client: &Client, node_token: &str, last: u64, batch: Bytes) -> Result<Appended> {
    Ok(match store(client, &events_of(node_token), Some(last), batch).await? {
        Acknowledged::Stored(number) => Appended::Stored(number),
        Acknowledged::Otherwise(number) if number > last => Appended::Already(number),
        Acknowledged::Otherwise(number) if number < last => Appended::Behind(number),
        Acknowledged::Otherwise(_) => {
            return Err(Error::Content("the broker expects the number that it refuses".to_owned()));
        }
    })
}
