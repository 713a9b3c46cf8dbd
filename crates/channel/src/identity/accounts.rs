//! The accounts of a fleet, as servers know them.
//!
//! ```text
//! hosts ──────┐
//! publisher ──┤ import, each what it asks at
//! enroller ───┼─────────▸ streams (exports all as services by one export, news as a stream) ──▸ enroller: enrol.*
//! collector ──┘            no user but the one that makes them
//! ```
//!
//! A server checks no permission on the subject that an answer goes to, and whoever asks chooses it:
//! `$JS.API.STREAM.DELETE.…`, say, to which the empty answer of a stream is a valid request. Across accounts an answer goes
//! back to the account of whoever asked. There no stream is, and what can be reached from it is what that account may ask
//! anyway. Nor that: what accounts import has one export, so servers take an answer to one service that would become a
//! request to another one for a cycle, and drop it.
//!
//! The server of a site (a leaf node) knows the same accounts. What its hosts ask goes into its own copy of the streams'
//! account, from there over one connection into the account `leaf` of the other servers, and on as if a host asked there.
//! Over a second connection, of the account `leaf-system`, it hears whose credentials were taken back.

use std::collections::BTreeMap;

use nkeys::KeyPair;
use serde_json::{Value, json};

use super::Claims;
use super::keys::Keys;
use super::role::{Role, in_own_account};
use crate::error::Result;
use crate::layout::{FILES, FILES_SUBJECTS, INVITED, NEWS};

/// Keys of users that are not accepted, and until when their JWTs must have been made, in seconds since 1970.
pub(super) type Revoked = BTreeMap<String, u64>;

/// How NATS writes that there is no limit.
pub(super) const NO_LIMIT: i64 = -1;

/// The limits of an account without streams: there are none.
fn limits() -> Value {
    json!({
        "subs": NO_LIMIT, "data": NO_LIMIT, "payload": NO_LIMIT, "imports": NO_LIMIT, "exports": NO_LIMIT,
        "wildcards": true, "conn": NO_LIMIT, "leaf": NO_LIMIT,
    })
}

/// What an account has from another.
fn import(kind: &str, subject: &str, of: &KeyPair) -> Value {
    json!({ "name": subject, "type": kind, "subject": subject, "account": of.public_key() })
}

/// What agents ask at, all of them.
pub(super) fn asked_by_hosts() -> [String; 3] {
    [format!("$JS.API.DIRECT.GET.{FILES}.{FILES_SUBJECTS}"), "ev.*".to_owned(), INVITED.to_owned()]
}

/// The JWT of the hosts' account, made then, with keys whose users are not accepted.
pub(super) fn hosts(keys: &Keys, revoked: &Revoked, made: u64) -> Result<String> {
    let scope = |key: &KeyPair, role: &str, publish: &[String], subscribe: &[&str]| {
        json!({
            "kind": "user_scope", "key": key.public_key(), "role": role,
            "template": {
                "pub": { "allow": publish }, "sub": { "allow": subscribe },
                "subs": 16, "data": NO_LIMIT, "payload": 1 << 20,
            },
        })
    };
    let [files, ..] = asked_by_hosts();
    let inbox = "_INBOX_{{name()}}.>";
    let services = asked_by_hosts();
    let services = services.iter().map(|subject| import("service", subject, &keys.streams));
    let nats = json!({
        "type": "account", "version": 2, "limits": limits(),
        "imports": services.chain([import("stream", NEWS, &keys.streams)]).collect::<Vec<_>>(),
        "signing_keys": [
            scope(&keys.agents, "agent", &[files, "ev.{{name()}}".to_owned()], &[NEWS, inbox]),
            scope(&keys.invitations, "invitation", &["enrol.{{name()}}".to_owned()], &[inbox]),
        ],
        "revocations": revoked,
    });
    Claims { iat: made, ..Claims::new(&keys.account.public_key(), "bulkhead", nats) }.sign(&keys.operator)
}

/// The JWT of the account that has the streams.
fn streams(keys: &Keys) -> Result<String> {
    let mut limits = limits();
    for of_streams in ["mem_storage", "disk_storage", "streams", "consumer"] {
        limits[of_streams] = NO_LIMIT.into();
    }
    let nats = json!({
        "type": "account", "version": 2, "limits": limits,
        // What others reach of it their imports say. One export, or answers become requests.
        "exports": [
            { "name": "services", "type": "service", "subject": ">" },
            { "name": "news", "type": "stream", "subject": NEWS },
        ],
        "imports": [import("service", INVITED, &keys.enroller)],
    });
    Claims::new(&keys.streams.public_key(), "streams", nats).sign(&keys.operator)
}

/// The JWT of a service's account.
fn service(keys: &Keys, role: Role) -> Result<String> {
    let mut mappings = serde_json::Map::new();
    let mut imports = Vec::new();
    for subject in role.asks() {
        let mut import = import("service", &subject, &keys.streams);
        let here = in_own_account(&subject);
        if here != subject {
            import["local_subject"] = here.as_str().into();
            mappings.insert(subject, json!([{ "subject": here, "weight": 100 }]));
        }
        imports.push(import);
    }
    let exports: Vec<Value> = role
        .answers()
        .iter()
        .map(|subject| json!({ "name": subject, "type": "service", "subject": subject }))
        .collect();
    let nats = json!({
        "type": "account", "version": 2, "limits": limits(), "imports": imports, "exports": exports,
        "mappings": mappings,
    });
    Claims::new(&keys.of(role).public_key(), role.name(), nats).sign(&keys.operator)
}

/// Where servers take an account's new JWT.
pub(super) const NEW_JWT: &str = "$SYS.REQ.CLAIMS.UPDATE";

/// Where servers ask each other for those that they have missed.
pub(super) const MISSED_JWTS: &str = "$SYS.REQ.CLAIMS.PACK";

/// The JWT of the account of sites' servers, for hosts; with revocations as [`hosts`].
pub(super) fn leaf(keys: &Keys, revoked: &Revoked, made: u64) -> Result<String> {
    let services = asked_by_hosts();
    let services = services.iter().map(|subject| import("service", subject, &keys.streams));
    let nats = json!({
        "type": "account", "version": 2, "limits": limits(),
        "imports": services.chain([import("stream", NEWS, &keys.streams)]).collect::<Vec<_>>(),
        "revocations": revoked,
    });
    Claims { iat: made, ..Claims::new(&keys.leaf.public_key(), "leaf", nats) }.sign(&keys.operator)
}

/// The JWT of the account of sites' servers, for revocations; with some as [`hosts`].
pub(super) fn leaf_system(keys: &Keys, revoked: &Revoked, made: u64) -> Result<String> {
    let nats = json!({
        "type": "account", "version": 2, "limits": limits(),
        "imports": [import("stream", NEW_JWT, &keys.system), import("service", MISSED_JWTS, &keys.system)],
        "revocations": revoked,
    });
    Claims { iat: made, ..Claims::new(&keys.leaf_system.public_key(), "leaf-system", nats) }
        .sign(&keys.operator)
}

/// The system account's key and JWT.
fn system(keys: &Keys) -> Result<(String, String)> {
    let nats = json!({
        "type": "account", "version": 2, "limits": limits(),
        "exports": [
            { "name": "revocations", "type": "stream", "subject": NEW_JWT },
            { "name": "missed", "type": "service", "subject": MISSED_JWTS, "response_type": "Stream" },
        ],
    });
    let key = keys.system.public_key();
    Ok((key.clone(), Claims::new(&key, "SYS", nats).sign(&keys.operator)?))
}

/// What each server's configuration includes, where the accounts whose users are taken back have those JWTs.
pub(super) fn configuration(keys: &Keys, known: [(&KeyPair, String); 3]) -> Result<String> {
    let operator = json!({ "type": "operator", "version": 2, "system_account": keys.system.public_key() });
    let operator = Claims::new(&keys.operator.public_key(), "bulkhead", operator).sign(&keys.operator)?;
    let (system_key, system) = system(keys)?;
    let mut accounts = vec![(system_key.clone(), system), (keys.streams.public_key(), streams(keys)?)];
    for role in Role::SERVICES {
        accounts.push((keys.of(role).public_key(), service(keys, role)?));
    }
    accounts.extend(known.map(|(key, jwt)| (key.public_key(), jwt)));
    let accounts: String = accounts.iter().map(|(key, jwt)| format!("  {key}: {jwt}\n")).collect();
    Ok(format!(
        "# A fleet's account: `include` this from each server's configuration. It holds no secret.\n\
         operator: {operator}\n\
         system_account: {system_key}\n\
         # Hosts of sites ask the streams here.\n\
         default_js_domain {{ {}: \"\", {}: \"\" }}\n\
         # Revocations arrive here while servers run, and outlive restarts.\n\
         resolver {{ type: full, dir: \"./jwt\", allow_delete: false, interval: \"10s\" }}\n\
         resolver_preload {{\n{accounts}}}\n",
        keys.leaf.public_key(),
        keys.streams.public_key()
    ))
}
