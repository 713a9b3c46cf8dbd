//! What is on record of enrolments, at the broker.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::identity::now;
use crate::jetstream::{Acknowledged, last, store};
use crate::layout::{ENROLMENTS, token};
use crate::push::patiently;

/// Which key a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The node's name.
    pub node: String,
    /// The public key of its user at the broker.
    pub key: String,
    /// Those that it had before.
    #[serde(default)]
    pub earlier: Vec<String>,
    /// The invitation that it used; empty: credentials were made for it.
    pub invitation: String,
    /// Whether it was put into the inventory by that invitation.
    #[serde(default)]
    pub is_listed: bool,
    /// When it was removed last, in seconds since 1970: invitations that were made until then are refused.
    #[serde(default)]
    pub removed: Option<u64>,
}

impl Enrolled {
    /// All its keys.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.earlier.iter().chain([&self.key]).filter(|key| !key.is_empty()).cloned().collect()
    }
}

/// Who has used an invitation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Used {
    pub(super) key: String,
    /// What was minted then. A host that asks again gets this and no newer one, which a removal would not concern.
    pub(super) jwt: String,
}

pub(super) fn text<T: Serialize>(value: &T) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| Error::Content(error.to_string()))
}

/// The last record of a subject, with its number.
pub(super) async fn read<T: for<'d> Deserialize<'d>>(
    client: &Client,
    subject: &str,
) -> Result<Option<(u64, T)>> {
    let Some(stored) = patiently(|| last(client, ENROLMENTS, subject)).await? else { return Ok(None) };
    let read = serde_json::from_slice(&stored.payload)
        .map_err(|error| Error::Content(format!("{subject}: the record cannot be read: {error}")))?;
    Ok(Some((stored.sequence, read)))
}

/// What is on record of a node.
///
/// # Errors
/// The broker does not answer.
pub async fn enrolled(client: &Client, node: &str) -> Result<Option<Enrolled>> {
    let found = read(client, &crate::layout::enrolled(&token(node))).await?;
    Ok(found.map(|(_, enrolled)| enrolled))
}

/// Records which key a node has, if what is there has that number still (0: there is nothing); returns the new one.
///
/// # Errors
/// Somebody else has recorded something meanwhile, or the broker does not answer.
pub(super) async fn put(client: &Client, expected: u64, enrolled: &Enrolled) -> Result<u64> {
    let subject = crate::layout::enrolled(&token(&enrolled.node));
    let text = text(enrolled)?;
    match patiently(|| store(client, &subject, Some(expected), text.clone())).await? {
        Acknowledged::Stored(number) => Ok(number),
        // The answer to an earlier attempt may have been lost.
        Acknowledged::Otherwise(_) => match patiently(|| last(client, ENROLMENTS, &subject)).await? {
            Some(now) if now.payload == text => Ok(now.sequence),
            _ => {
                Err(Error::Content(format!("{} is being changed by somebody else: try again", enrolled.node)))
            }
        },
    }
}

/// Records that a node is removed now, so that no invitation that was made until now brings it back; returns all keys
/// that are on record of it. A record that cannot be read is replaced.
///
/// # Errors
/// The broker does not answer.
pub async fn mark_removed(client: &Client, node: &str) -> Result<Vec<String>> {
    let subject = crate::layout::enrolled(&token(node));
    loop {
        let stored = patiently(|| last(client, ENROLMENTS, &subject)).await?;
        let expected = stored.as_ref().map_or(0, |stored| stored.sequence);
        let before: Option<Enrolled> = stored.and_then(|stored| {
            let read = serde_json::from_slice(&stored.payload);
            read.inspect_err(|error| {
                tracing::warn!("{subject}: the record cannot be read, and is replaced: {error}");
            })
            .ok()
        });
        let before = before.unwrap_or_else(|| Enrolled { node: node.to_owned(), ..Enrolled::default() });
        let removed = Enrolled { removed: Some(now()), ..before };
        let text = text(&removed)?;
        if let Acknowledged::Stored(_) =
            patiently(|| store(client, &subject, Some(expected), text.clone())).await?
        {
            return Ok(removed.keys());
        }
    }
}
