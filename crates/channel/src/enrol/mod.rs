//! How a host comes to credentials of its own: by an invitation that works once.
//!
//! ```text
//! operator: invite ─▸ invitation (a file): may publish to enrol.<id> and nothing else, for an hour or so
//!                         │
//! host: enrol ── makes its key, sends the public part ─▸ enroller ─ records <id> ▸ key, if nobody has before
//!        ◂────────────── its JWT ───────────────────────────┘   └─ adds the node to the inventory, signed
//! ```
//!
//! The host's private key never leaves it. Of many that use one invitation the first is enrolled: the broker stores one
//! record of it. The enroller is needed for this alone.

mod enroller;
mod host;
mod invitation;
mod record;

pub use enroller::{Enroller, Roll};
pub use host::enrol;
pub use invitation::{Invitation, Offer, invite};
pub use record::{Enrolled, enrolled, mark_removed};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::Client;
use crate::error::{Error, Result};

/// What a host sends.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// The invitation's JWT, which says what is offered and to whom.
    invitation: String,
    /// The public key that the host has made.
    key: String,
    /// Its signature of the invitation, which shows that the host has it.
    proof: String,
    /// The host's WireGuard key, in base64, if it says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wireguard: Option<String>,
}

/// What the host's new key signs.
fn proof_of(invitation: &str) -> Vec<u8> {
    format!("bulkhead enrol {invitation}").into_bytes()
}

/// What it is answered.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Hands the servers an account's JWT, such as one with another revocation. The client's credentials are those of the
/// system account. Servers that are away get it from the others.
///
/// # Errors
/// No server takes it, or none answers.
pub async fn tell_servers(client: &Client, account: &str) -> Result<()> {
    let subject = "$SYS.REQ.CLAIMS.UPDATE";
    let payload = Bytes::copy_from_slice(account.as_bytes());
    let answer = crate::push::patiently(|| client.request(subject, &[], payload.clone())).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)
        .map_err(|_| Error::Content(format!("{subject}: the answer is not the server's")))?;
    if answer.pointer("/data/code").and_then(Value::as_u64) == Some(200) {
        return Ok(());
    }
    let why =
        answer.pointer("/error/description").and_then(Value::as_str).unwrap_or("the server does not say why");
    Err(Error::JetStream {
        subject: subject.to_owned(),
        code: 0,
        description: why.chars().take(200).collect(),
    })
}
