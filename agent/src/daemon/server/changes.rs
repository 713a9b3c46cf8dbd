//! Requests that change what is enforced.
//!
//! What is begun is brought to its end and told of, whether or not whoever asked is still there.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State as Extract};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bulkhead_api::change::{Malformed, Reader};
use bulkhead_api::event::{Action, Actor};
use bulkhead_api::grant;
use bulkhead_api::quarantine;
use bulkhead_api::request::{self, Confirmation, Promotion, Rollback};
use bulkhead_api::text::is_plain;
use bulkhead_grants::{Grant, MAX_BYTES, Note};
use bulkhead_host::spare;
use futures_util::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::account::{About, Answered, outcome};
use super::budget::Share;
use super::peer::Peer;
use super::{Api, respond};
use crate::daemon::enforcement;
use crate::daemon::enforcement::rollback::Return;
use crate::daemon::events::control::{Change, generation};
use crate::daemon::files::{Asked, Asker};
use crate::daemon::fleet;
use crate::daemon::grants;
use crate::daemon::quarantine as quarantining;
use crate::daemon::state::Enforcer;
use crate::exit::Usage;

type From = ConnectInfo<Peer>;

/// Does what is asked for, tells of it, and answers.
async fn command<T: Serialize + Answered + Send + 'static>(
    api: Arc<Api>,
    ConnectInfo(peer): From,
    action: Action,
    about: About,
    work: impl FnOnce(&Enforcer) -> anyhow::Result<T> + Send + 'static,
) -> Response {
    let by = peer.actor;
    // A task of its own: the connection's ends with whoever asked.
    let done = tokio::spawn(async move {
        let makes_generation = matches!(
            action,
            Action::Apply
                | Action::Rollback
                | Action::Stage
                | Action::Unstage
                | Action::Promote
                | Action::Grant
                | Action::BreakGlass
                | Action::Revoke
        );
        let _one = if makes_generation { Some(api.changes.lock().await) } else { None };
        let enforcer = api.enforcer.clone();
        let work = move || {
            // Whoever asks why is to be told.
            let _lent = spare::is_short().then(spare::lend);
            let before = generation(&enforcer);
            let answer = work(&enforcer);
            // On record before it is answered.
            tell(&enforcer, action, by, about, before, &answer);
            answer
        };
        let answer = tokio::task::spawn_blocking(work).await.map_err(anyhow::Error::from).flatten();
        if action == Action::Detach && answer.is_ok() {
            // The agent ends after this answer; if it ends already, so much the better.
            let _ = api.detach.try_send(());
        }
        respond(answer)
    });
    let failed = |error: tokio::task::JoinError| {
        (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
    };
    done.await.unwrap_or_else(failed)
}

fn tell<T: Answered>(
    enforcer: &Enforcer,
    action: Action,
    by: Actor,
    about: About,
    before: u32,
    answer: &anyhow::Result<T>,
) {
    // Asking again and again for an interface that is not there changes nothing.
    let is_told = action != Action::Attach || answer.is_ok();
    if let Some((outcome, why)) = outcome(answer).filter(|_| is_told) {
        let detail = why.or(about.reason);
        let signers = answer.as_ref().map(Answered::signers).unwrap_or_default();
        Change { action, by, before, outcome, subject: about.subject, detail, signers }.tell(enforcer);
    }
}

/// Reads JSON.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Usage> {
    request::read(body).map_err(|error| Usage(format!("the request is not understood: {error}")))
}

/// The same where nothing need be said.
fn read_or_default<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Usage> {
    if body.is_empty() { Ok(T::default()) } else { read(body) }
}

/// Reads a change as it comes, however long its files are within their bounds, of which others leave a share; none if
/// the body broke off.
async fn asked(body: Body, by: &Actor, share: &mut Share) -> Option<Result<Asked, Malformed>> {
    let mut reader = Reader::new(|bytes| share.take(bytes));
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        if let Err(error) = reader.take(&piece.ok()?) {
            return Some(Err(error));
        }
    }
    Some(reader.finish().map(|change| Asked::new(change, by.clone())))
}

/// Does what is asked for by a change.
async fn change<T: Serialize + Answered + Send + 'static>(
    api: Arc<Api>,
    from: From,
    action: Action,
    body: Body,
    work: impl FnOnce(&Enforcer, &Asked) -> anyhow::Result<T> + Send + 'static,
) -> Response {
    let mut share = api.budget.share();
    let asked = match asked(body, &from.0.actor, &mut share).await {
        // Who has asked for nothing whole has asked for nothing.
        None => return (StatusCode::BAD_REQUEST, "the request broke off: send it again").into_response(),
        Some(Err(Malformed::Busy)) => {
            let again = [(header::RETRY_AFTER, "5")];
            return (StatusCode::SERVICE_UNAVAILABLE, again, Malformed::Busy.to_string()).into_response();
        }
        Some(asked) => asked.map_err(|error| Usage(error.to_string())),
    };
    let policy = asked.as_ref().ok().and_then(|asked| asked.policy.as_ref());
    let about = About { subject: policy.map(|policy| policy.name().to_string()), reason: None };
    let work = move |enforcer: &Enforcer| {
        // The texts live as long.
        let _share = share;
        work(enforcer, &asked?)
    };
    command(api, from, action, about, work).await
}

pub async fn apply(Extract(api): Extract<Arc<Api>>, from: From, body: Body) -> Response {
    change(api, from, Action::Apply, body, enforcement::apply).await
}

pub async fn confirm(Extract(api): Extract<Arc<Api>>, from: From, body: Bytes) -> Response {
    // Commands of earlier versions send `null`.
    let request = read_or_default::<Option<Confirmation>>(&body).map(Option::unwrap_or_default);
    let meant = request.as_ref().ok().and_then(|request| request.generation);
    let about = About { subject: meant.map(|number| format!("generation {number}")), reason: None };
    let work = move |enforcer: &Enforcer| enforcement::confirm(enforcer, request?.generation);
    command(api, from, Action::Confirm, about, work).await
}

pub async fn rollback(Extract(api): Extract<Arc<Api>>, from: From, body: Bytes) -> Response {
    let by = from.0.actor.clone();
    let request = read_or_default::<Rollback>(&body);
    let to = request.as_ref().ok().and_then(|request| request.to);
    let about = About { subject: to.map(|number| format!("generation {number}")), reason: None };
    let work = move |enforcer: &Enforcer| {
        let Rollback { to, within, session } = request?;
        enforcement::rollback(enforcer, &Return { to, within, asker: Asker { by, session } })
    };
    command(api, from, Action::Rollback, about, work).await
}

pub async fn stage(Extract(api): Extract<Arc<Api>>, from: From, body: Body) -> Response {
    change(api, from, Action::Stage, body, enforcement::stage).await
}

pub async fn unstage(Extract(api): Extract<Arc<Api>>, from: From) -> Response {
    command(api, from, Action::Unstage, About::default(), enforcement::unstage).await
}

pub async fn promote(Extract(api): Extract<Arc<Api>>, from: From, body: Bytes) -> Response {
    let by = from.0.actor.clone();
    let work = move |enforcer: &Enforcer| {
        let Promotion { mode, within, session } = read_or_default(&body)?;
        enforcement::promote(enforcer, (mode, within), &Asker { by, session })
    };
    command(api, from, Action::Promote, About::default(), work).await
}

pub async fn quarantine(Extract(api): Extract<Arc<Api>>, from: From, body: Bytes) -> Response {
    let request = read::<quarantine::Request>(&body).and_then(|request| {
        let words = [Some(&request.subject), request.reason.as_ref()];
        if words.into_iter().flatten().all(|text| is_plain(text)) {
            return Ok(request);
        }
        Err(Usage("the subject and the reason are one line each, without control characters".to_owned()))
    });
    let about = request
        .as_ref()
        .map(|request| About { subject: Some(request.subject.clone()), reason: request.reason.clone() });
    let about = about.unwrap_or_default();
    let work = move |enforcer: &Enforcer| quarantining::quarantine(enforcer, &request?);
    command(api, from, Action::Quarantine, about, work).await
}

pub async fn release(Extract(api): Extract<Arc<Api>>, from: From, body: Bytes) -> Response {
    let subject = read::<String>(&body);
    let about = About { subject: subject.as_ref().ok().cloned(), reason: None };
    let work = move |enforcer: &Enforcer| quarantining::release(enforcer, &subject?);
    command(api, from, Action::Release, about, work).await
}

pub async fn accept(Extract(api): Extract<Arc<Api>>, from: From, body: Bytes) -> Response {
    let source = read::<String>(&body);
    let about = About { subject: source.as_ref().ok().cloned(), reason: None };
    let work = move |enforcer: &Enforcer| Ok(enforcer.setup.sources.accept(&source?)?);
    command(api, from, Action::Accept, about, work).await
}

pub async fn resume(Extract(api): Extract<Arc<Api>>, from: From) -> Response {
    command(api, from, Action::Resume, About::default(), fleet::resume).await
}

/// Takes whatever people sign for every host of a fleet.
pub async fn note(
    Extract(api): Extract<Arc<Api>>,
    from: From,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request = body
        .map_err(|_| Usage(format!("the note is longer than {MAX_BYTES} bytes: no note of a fleet")))
        .and_then(|body| read::<grant::Request>(&body));
    let about = request.as_ref().ok().and_then(|request| fleet::about(&request.note));
    let (action, subject, reason) = about.unwrap_or((Action::Grant, None, None));
    let work = move |enforcer: &Enforcer| fleet::hand_in(enforcer, &request?.note);
    command(api, from, action, About { subject, reason }, work).await
}

/// Takes a grant. A note that is too long is refused as one, and on record like others.
pub async fn grant(
    Extract(api): Extract<Arc<Api>>,
    from: From,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request = body
        .map_err(|_| Usage(format!("the note is longer than {MAX_BYTES} bytes: no note of a grant")))
        .and_then(|body| read::<grant::Request>(&body));
    let asked = request.as_ref().ok().and_then(|request| {
        let note = Note::parse(request.note.as_bytes()).ok()?;
        Grant::parse(note.text()).ok()
    });
    let is_glass = asked.as_ref().is_some_and(|asked| asked.break_glass);
    let about = asked.map(|asked| {
        let Grant { id, source, destination, protocol, ticket, reason, requester, .. } = asked;
        let reason =
            format!("{source} to {destination}/{protocol}; {ticket}: {reason}; requested by {requester}");
        About { subject: Some(id), reason: Some(reason) }
    });
    let action = if is_glass { Action::BreakGlass } else { Action::Grant };
    let work = move |enforcer: &Enforcer| grants::grant(enforcer, &request?);
    command(api, from, action, about.unwrap_or_default(), work).await
}

pub async fn revoke(Extract(api): Extract<Arc<Api>>, from: From, body: Bytes) -> Response {
    let request = read::<grant::Revocation>(&body).and_then(|request| {
        if request.reason.as_ref().is_none_or(|reason| is_plain(reason)) && is_plain(&request.id) {
            return Ok(request);
        }
        Err(Usage("the id and the reason are one line each, without control characters".to_owned()))
    });
    let about = request
        .as_ref()
        .map(|request| About { subject: Some(request.id.clone()), reason: request.reason.clone() });
    let about = about.unwrap_or_default();
    let work = move |enforcer: &Enforcer| grants::revoke(enforcer, &request?);
    command(api, from, Action::Revoke, about, work).await
}

pub async fn attach(Extract(api): Extract<Arc<Api>>, from: From, body: Bytes) -> Response {
    let interface = read::<String>(&body);
    let about = About { subject: interface.as_ref().ok().cloned(), reason: None };
    let work = move |enforcer: &Enforcer| enforcement::attach(enforcer, &interface?);
    command(api, from, Action::Attach, about, work).await
}

pub async fn detach(Extract(api): Extract<Arc<Api>>, from: From) -> Response {
    command(api, from, Action::Detach, About::default(), enforcement::detach).await
}
