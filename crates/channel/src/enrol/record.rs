//! What is on record of enrolments, at the broker.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::jetstream::{Acknowledged, last, store};
use crate::layout::{ENROLMENTS, token};
use crate::push::patiently;

/// Which key a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The node's name.
    pub node: String,
    /// The public key of its user at the broker.
    pub key: String,
    /// The invitation that it used; empty: credentials were made for it.
    pub invitation: String,
    /// Whether it was removed.
    #[serde(default)]
    pub is_removed: bool,
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

/// Records which key a node has, in place of what is there.
///
/// # Errors
/// The broker does not answer.
pub(super) async fn put(client: &Client, enrolled: &Enrolled) -> Result<()> {
    let subject = crate::layout::enrolled(&token(&enrolled.node));
    let text = text(enrolled)?;
    match patiently(|| store(client, &subject, None, text.clone())).await? {
        Acknowledged::Stored(_) => Ok(()),
        Acknowledged::Otherwise(_) => Err(Error::Content(format!("{subject}: refused without a condition"))),
    }
}

/// Records that a node was removed, so that its invitation brings it back no more.
///
/// # Errors
/// The broker does not answer.
pub async fn mark_removed(client: &Client, enrolled: &Enrolled) -> Result<()> {
    put(client, &Enrolled { is_removed: true, ..enrolled.clone() }).await
}
