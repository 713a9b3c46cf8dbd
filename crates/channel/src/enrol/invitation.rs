//! An invitation: a file that enrols one host, once.

use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::identity::{Account, Claims, Credentials, write_secret};

/// No invitation is longer, in bytes.
const LONGEST: u64 = 1 << 20;

/// What a host will be, as the operator has said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The node's name in the inventory.
    pub node: String,
    /// Its addresses on the overlay.
    pub addresses: Vec<String>,
    /// Its tags, such as `tag:oms`.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// All that a host needs to enrol, in one file. Who has the file can use it, once.
#[derive(Clone, Serialize, Deserialize)]
pub struct Invitation {
    /// The broker's servers.
    pub servers: Vec<String>,
    /// Certificates to trust them by, PEM; none: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Credentials that may enrol and nothing else.
    pub credentials: String,
    /// The first root of the repository of policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_root: Option<String>,
    /// The first root of the repository of inventories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory_root: Option<String>,
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// Makes an invitation that is good for some seconds.
///
/// # Errors
/// The offer is none, or the account's key cannot sign.
pub fn invite(
    account: &Account,
    offer: &Offer,
    seconds: u64,
    servers: &[String],
    ca: Option<String>,
) -> Result<Invitation> {
    check(offer)?;
    let id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let until = crate::identity::now() + seconds;
    let offer = serde_json::to_value(offer).map_err(|error| Error::Settings(error.to_string()))?;
    let credentials = account.invitation(&id, until, offer)?.text()?.to_string();
    Ok(Invitation { servers: servers.to_vec(), ca, credentials, policy_root: None, inventory_root: None })
}

/// Whether an offer can be one.
fn check(offer: &Offer) -> Result<()> {
    let wrong = |what: &str| {
        Err(Error::Settings(format!("`{}` cannot be offered: {what}", offer.node.escape_debug())))
    };
    if offer.node.is_empty() || offer.node.len() > 253 || offer.node.chars().any(char::is_control) {
        return wrong("a node's name has 1 to 253 characters");
    }
    if offer.addresses.is_empty()
        || !offer.addresses.iter().all(|address| address.parse::<std::net::IpAddr>().is_ok())
    {
        return wrong("a node has addresses on the overlay");
    }
    if !offer.tags.iter().all(|tag| tag.strip_prefix("tag:").is_some_and(|name| !name.is_empty())) {
        return wrong("a tag is written tag:NAME");
    }
    Ok(())
}

/// What an invitation offers, if the key has signed it and it is not over; its id before that, and when it was made.
pub(super) fn offered(jwt: &str, invitations: &str) -> Result<(String, u64, Offer)> {
    let claims: Claims = crate::identity::verify(jwt, invitations)?;
    let offer = claims.bulkhead.ok_or_else(|| Error::Settings("the invitation offers nothing".to_owned()))?;
    let offer: Offer = serde_json::from_value(offer)
        .map_err(|error| Error::Settings(format!("the invitation's offer cannot be read: {error}")))?;
    check(&offer)?;
    Ok((claims.name, claims.iat, offer))
}

impl Invitation {
    /// Reads its file.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self> {
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|error| Error::file(path, error))?;
        file.take(LONGEST).read_to_string(&mut text).map_err(|error| Error::file(path, error))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::Settings(format!("{}: this is no invitation: {error}", path.display())))
    }

    /// Writes its file, for its owner alone.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Settings(error.to_string()))?;
        write_secret(path, text.as_bytes())
    }

    /// Its credentials.
    ///
    /// # Errors
    /// There are none.
    pub(super) fn credentials(&self) -> Result<Credentials> {
        Credentials::parse(&self.credentials)
    }
}
