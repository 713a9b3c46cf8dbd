//! The host's side of an enrolment.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_http::Tls;
use bytes::Bytes;
use nkeys::KeyPair;

use super::{Answer, Invitation, Request, proof_of};
use crate::client::{Client, Settings};
use crate::error::{Error, Result};
use crate::identity::{Credentials, read_key, write_secret};
use crate::layout;

/// How long the broker and then the enroller are waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Uses an invitation: makes a key, has it enrolled, and writes `fleet.creds` into the directory, with `fleet.ca.pem`,
/// `fleet/policy.root.json` and `fleet/inventory.root.json` if the invitation has them. Done again after it was
/// interrupted, it goes on with the key it has made.
///
/// # Errors
/// The invitation was used by another host or is over, the enroller or the broker is not there, or a file cannot be
/// written.
pub async fn enrol(
    invitation: &Invitation,
    directory: &Path,
    wireguard: Option<String>,
) -> Result<Credentials> {
    let credentials = invitation.credentials()?;
    // What is there stays in force until the enroller has accepted the invitation: it may be anybody's.
    let below = directory.join("fleet");
    std::fs::create_dir_all(&below).map_err(|error| Error::file(&below, error))?;
    let brought = [
        (directory.join("fleet.ca.pem"), &invitation.ca),
        (below.join("policy.root.json"), &invitation.policy_root),
        (below.join("inventory.root.json"), &invitation.inventory_root),
    ];
    let aside = |path: &Path| path.with_extension("enrolling");
    for (path, text) in &brought {
        if let Some(text) = text {
            write_secret(&aside(path), text.as_bytes())?;
        }
    }
    let ca = aside(&brought[0].0);
    let key = own_key(&directory.join("enrolling.nk"))?;
    let once = directory.join("enrolling.creds");
    credentials.write(&once)?;
    let tls = Tls { ca: invitation.ca.as_ref().map(|_| ca), identity: None };
    let settings = Settings {
        servers: invitation.servers.clone(),
        credentials: Some(once.clone()),
        tls,
        name: String::new(),
    };
    let proof = key.sign(&proof_of(credentials.jwt())).map_err(|error| Error::Settings(error.to_string()))?;
    let request = Request {
        invitation: credentials.jwt().to_owned(),
        key: key.public_key(),
        proof: URL_SAFE_NO_PAD.encode(proof),
        wireguard,
    };
    let answered = ask(settings, credentials.name(), &request).await;
    // It has been used, or is of no use.
    let _ = std::fs::remove_file(&once);
    let minted = answered.and_then(|jwt| Credentials::new(jwt, key));
    for (path, text) in &brought {
        if text.is_none() {
            continue;
        }
        let done = match &minted {
            Ok(_) => std::fs::rename(aside(path), path),
            Err(_) => std::fs::remove_file(aside(path)),
        };
        done.map_err(|error| Error::file(path, error))?;
    }
    let minted = minted?;
    // Last: it says that the others are there.
    minted.write(&directory.join("fleet.creds"))?;
    let _ = std::fs::remove_file(directory.join("enrolling.nk"));
    Ok(minted)
}

/// The key that was made for this enrolment, or a new one.
fn own_key(path: &Path) -> Result<KeyPair> {
    if path.exists() {
        return read_key(path);
    }
    let key = KeyPair::new_user();
    let seed = key.seed().map_err(|error| Error::Settings(format!("making a key: {error}")))?;
    write_secret(path, zeroize::Zeroizing::new(seed).as_bytes())?;
    Ok(key)
}

async fn ask(settings: Settings, id: &str, request: &Request) -> Result<String> {
    let client = Client::new(settings)?;
    client.connected(PATIENCE).await?;
    let request =
        serde_json::to_vec(request).map(Bytes::from).map_err(|error| Error::Settings(error.to_string()))?;
    let answer = match client.request_within(PATIENCE, &layout::enrol(id), &[], request).await {
        Err(Error::NoResponders(_)) => {
            return Err(Error::Content(
                "no enroller is there: `bulkhead fleet enroller` runs one".to_owned(),
            ));
        }
        other => other?,
    };
    let answer: Answer = serde_json::from_slice(&answer.payload)
        .map_err(|_| Error::Content("the enroller's answer cannot be read".to_owned()))?;
    match (answer.jwt, answer.error) {
        (Some(jwt), None) => Ok(jwt),
        (_, error) => {
            let why: String =
                error.unwrap_or_default().chars().filter(|c| !c.is_control()).take(300).collect();
            Err(Error::Content(format!("the enroller refuses: {why}")))
        }
    }
}
