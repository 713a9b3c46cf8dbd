//! JetStream's requests, as far as a fleet needs them
//! (<https://docs.nats.io/reference/reference-protocols/nats_api_reference>).

use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::wire::Message;

/// Another message came first: `wrong last sequence: N` (JSStreamWrongLastSequenceErrF).
const WRONG_LAST: u64 = 10071;

/// The same, while another one is being stored (JSStreamWrongLastSequenceConstantErr).
const WRONG_LAST_NOW: u64 = 10164;

/// No such stream (JSStreamNotFoundErr).
const NO_STREAM: u64 = 10059;

/// A message as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Its number in the stream.
    pub(crate) sequence: u64,
    pub(crate) payload: Bytes,
}

/// What became of a message that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// It is stored under that number, on a majority of the servers.
    Stored(u64),
    /// It is not: the last message of its subject has this number, and not the expected one.
    Otherwise(u64),
}

/// The last message of a subject, from whichever server has a copy. None: there is none.
pub(crate) async fn last(client: &Client, stream: &str, subject: &str) -> Result<Option<Stored>> {
    let ask = format!("$JS.API.DIRECT.GET.{stream}.{subject}");
    let answer = client.request(&ask, &[], Bytes::new()).await?;
    match answer.status {
        Some(404) => return Ok(None),
        Some(status) => {
            let description = answer.description.clone();
            return Err(Error::JetStream { subject: ask, code: status.into(), description });
        }
        None => {}
    }
    let sequence = answer.header("Nats-Sequence").and_then(|number| number.parse().ok());
    match sequence {
        Some(sequence) if answer.header("Nats-Subject") == Some(subject) => {
            Ok(Some(Stored { sequence, payload: answer.payload }))
        }
        // An answer to something else is as good as none.
        _ => Err(Error::Content(format!("{ask}: this is no answer to that"))),
    }
}

/// Stores a message, if the last of its subject has that number (0: there is none).
pub(crate) async fn store(
    client: &Client,
    subject: &str,
    expected: Option<u64>,
    payload: Bytes,
) -> Result<Acknowledged> {
    let expected: Vec<_> = expected
        .map(|number| ("Nats-Expected-Last-Subject-Sequence", number.to_string()))
        .into_iter()
        .collect();
    let answer = client.request(subject, &expected, payload).await?;
    match body(subject, &answer) {
        Ok(answer) => {
            let sequence = answer.get("seq").and_then(Value::as_u64);
            sequence
                .map(Acknowledged::Stored)
                .ok_or_else(|| Error::Content(format!("{subject}: the answer has no number")))
        }
        Err(Error::JetStream { code: WRONG_LAST, description, .. }) => {
            let number = description.rsplit(' ').next().and_then(|number| number.parse().ok());
            number
                .map(Acknowledged::Otherwise)
                .ok_or_else(|| Error::Content(format!("{subject}: the refusal has no number")))
        }
        Err(Error::JetStream { code: WRONG_LAST_NOW, .. }) => Err(Error::Silent(subject.to_owned())),
        Err(error) => Err(error),
    }
}

/// What a request of the API answers.
pub(crate) async fn api(client: &Client, what: &str, request: &Value) -> Result<Value> {
    let subject = format!("$JS.API.{what}");
    let payload = if request.is_null() { Bytes::new() } else { request.to_string().into() };
    let within = std::time::Duration::from_secs(10);
    let answer = client.request_within(within, &subject, &[], payload).await?;
    body(&subject, &answer)
}

/// An answer's JSON, or the error that it tells of.
fn body(subject: &str, answer: &Message) -> Result<Value> {
    let body: Value = serde_json::from_slice(&answer.payload)
        .map_err(|_| Error::Content(format!("{subject}: the answer is not JetStream's")))?;
    let Some(error) = body.get("error") else { return Ok(body) };
    let number = |key: &str| error.get(key).and_then(Value::as_u64);
    let code = number("err_code").or_else(|| number("code")).unwrap_or_default();
    let description: String =
        error.get("description").and_then(Value::as_str).unwrap_or_default().chars().take(200).collect();
    // 503: there is no leader now.
    if number("code") == Some(503) {
        return Err(Error::NoResponders(format!("{subject}: {description}")));
    }
    Err(Error::JetStream { subject: subject.to_owned(), code, description })
}

/// Makes a stream, or has an existing one be as it must; what else an operator has set there stays.
pub(crate) async fn ensure_stream(client: &Client, name: &str, wanted: &Value) -> Result<()> {
    let current = match api(client, &format!("STREAM.INFO.{name}"), &Value::Null).await {
        Ok(info) => info.get("config").cloned().unwrap_or_default(),
        Err(Error::JetStream { code: NO_STREAM, .. }) => {
            return api(client, &format!("STREAM.CREATE.{name}"), wanted).await.map(drop);
        }
        Err(error) => return Err(error),
    };
    // Limits are the operator's.
    const MUST: [&str; 7] = [
        "subjects",
        "num_replicas",
        "republish",
        "deny_delete",
        "deny_purge",
        "allow_direct",
        "max_msgs_per_subject",
    ];
    let mut merged = current.clone();
    for key in MUST {
        if let Some(value) = wanted.get(key) {
            merged[key] = value.clone();
        }
    }
    if merged == current {
        return Ok(());
    }
    api(client, &format!("STREAM.UPDATE.{name}"), &merged).await.map(drop)
}

/// How many consumers a stream has.
///
/// # Errors
/// There is no such stream, or nobody answers.
pub async fn consumers(client: &Client, stream: &str) -> Result<u64> {
    let info = api(client, &format!("STREAM.INFO.{stream}"), &json!({})).await?;
    Ok(info.pointer("/state/consumer_count").and_then(Value::as_u64).unwrap_or_default())
}
