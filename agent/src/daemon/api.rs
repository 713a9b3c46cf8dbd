//! The agent's socket: HTTP over a Unix socket that only root may open.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::{Body, Bytes};
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use bulkhead_api::event::{Event, Kind, Missed};
use bulkhead_api::quarantine;
use bulkhead_api::request::{Confirmation, Request};
use bulkhead_api::status::{State, Status};
use bulkhead_host::spare;
use rustix::fs::Mode;
use serde::Serialize;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::clock::boot_time;
use super::control;
use super::enforcer::Enforcer;
use super::events::{Shared, timestamp};
use super::listener::Heard;
use super::status;
use super::venues::unmanaged;
use crate::exit::Usage;

/// Commands that may wait to be heard.
const BACKLOG: i32 = 128;

/// How often a status is read again because something has changed meanwhile, and after which time.
const TRIES: usize = 10;
const AFTER_CHANGE: Duration = Duration::from_millis(20);

/// What the socket answers from.
pub struct Api {
    /// Makes changes, and knows what runs.
    pub enforcer: Arc<Enforcer>,
    /// Told to detach.
    pub detach: mpsc::Sender<()>,
}

/// Listens on the socket, whose directory is there. A socket file of a dead agent is replaced.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{}: replacing it", path.display()));
        }
        _ => {}
    }
    bind(path).with_context(|| format!("{}: listening", path.display()))
}

/// A socket that is root's alone from the moment at which it has its name: the file gets the mode that
/// the socket has by then.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

/// Serves until the process ends.
pub async fn serve(listener: UnixListener, api: Arc<Api>) -> io::Result<()> {
    let router = Router::new()
        // For a command that waits for its answer. It waits for no lock.
        .route("/alive", get(async || StatusCode::OK))
        .route("/status", get(status))
        .route("/events", get(events))
        .route("/detach", post(detach))
        .route("/apply", post(apply))
        .route("/confirm", post(confirm))
        .route("/rollback", post(rollback))
        .route("/stage", post(stage))
        .route("/unstage", post(unstage))
        .route("/promote", post(promote))
        .route("/quarantine", post(quarantine))
        .route("/release", post(release))
        .route("/attach", post(attach))
        .layer(middleware::from_fn_with_state(api.clone(), control::record))
        .with_state(api)
        .into_make_service_with_connect_info::<control::Peer>();
    axum::serve(Heard(listener), router).await
}

/// Works on a thread that may block, and answers in JSON: 400 for what the caller named wrongly,
/// 500 for what the system refused.
async fn blocking<T: Serialize + Send + 'static>(
    api: Arc<Api>,
    work: impl FnOnce(&Enforcer) -> anyhow::Result<T> + Send + 'static,
) -> Response {
    let enforcer = api.enforcer.clone();
    let work = move || {
        // Whoever asks why is to be told.
        let _lent = spare::is_short().then(spare::lend);
        work(&enforcer)
    };
    let done = tokio::task::spawn_blocking(work).await;
    match done.map_err(anyhow::Error::from).flatten() {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            let code =
                if error.is::<Usage>() { StatusCode::BAD_REQUEST } else { StatusCode::INTERNAL_SERVER_ERROR };
            (code, format!("{error:#}")).into_response()
        }
    }
}

async fn status(Extract(api): Extract<Arc<Api>>) -> Response {
    blocking(api, |enforcer| {
        let events = enforcer.shared.hub.stats();
        let (instance, paths) = (&enforcer.setup.instance, &enforcer.setup.paths);
        if enforcer.live().detached {
            return status::read(instance, paths, None, None, true);
        }
        let status = of_one_moment(enforcer, || {
            let agent = status::agent(enforcer, events);
            let in_place = enforcer.in_place(&agent);
            status::read(instance, paths, Some(agent), in_place, true)
        })?;
        let (venues, indices) = {
            let live = enforcer.live();
            let indices: Vec<u32> = live.attached.iter().map(|attached| attached.index).collect();
            (live.built.venues.clone(), indices)
        };
        let status = status.with_problems(unmanaged(&venues, &indices)?);
        let status = status.with_problems(enforcer.guard_problem().into_iter().collect());
        let status = status.with_problems(enforcer.contested());
        let status = status.with_problems(enforcer.live().built.problems.clone());
        let status = status.with_problems(enforcer.store.unsaved_problem().into_iter().collect());
        let mut status = status;
        status.problems.extend(enforcer.guard_notes());
        // What is in force, even if the disk refused it.
        status.quarantined = status::quarantined(&enforcer.live().quarantined);
        Ok(status)
    })
    .await
}

/// A status during which the agent itself has changed nothing: what it is just changing is no fault. One who changes
/// all the time gets the last.
fn of_one_moment(enforcer: &Enforcer, read: impl Fn() -> anyhow::Result<Status>) -> anyhow::Result<Status> {
    let mut status = read()?;
    for _ in 0..TRIES {
        let agent = status.agent.as_ref();
        let is_same = agent.is_some_and(|agent| enforcer.is_unchanged(agent));
        if is_same || status.state == State::Enforced {
            break;
        }
        std::thread::sleep(AFTER_CHANGE);
        status = read()?;
    }
    Ok(status)
}

async fn detach(Extract(api): Extract<Arc<Api>>) -> Response {
    let answer = blocking(api.clone(), |enforcer| enforcer.detach()).await;
    if answer.status() == StatusCode::OK {
        // The agent ends after this answer; if it ends already, so much the better.
        let _ = api.detach.try_send(());
    }
    answer
}

async fn apply(Extract(api): Extract<Arc<Api>>, Json(request): Json<Request>) -> Response {
    blocking(api, move |enforcer| enforcer.apply(&request)).await
}

async fn confirm(Extract(api): Extract<Arc<Api>>) -> Response {
    blocking(api, Enforcer::confirm).await
}

async fn rollback(Extract(api): Extract<Arc<Api>>) -> Response {
    blocking(api, Enforcer::rollback).await
}

async fn stage(Extract(api): Extract<Arc<Api>>, Json(request): Json<Request>) -> Response {
    blocking(api, move |enforcer| enforcer.stage(&request)).await
}

async fn unstage(Extract(api): Extract<Arc<Api>>) -> Response {
    blocking(api, Enforcer::unstage).await
}

async fn promote(Extract(api): Extract<Arc<Api>>, Json(confirmation): Json<Confirmation>) -> Response {
    blocking(api, move |enforcer| enforcer.promote(&confirmation)).await
}

async fn quarantine(Extract(api): Extract<Arc<Api>>, Json(request): Json<quarantine::Request>) -> Response {
    blocking(api, move |enforcer| enforcer.quarantine(&request)).await
}

async fn release(Extract(api): Extract<Arc<Api>>, Json(subject): Json<String>) -> Response {
    blocking(api, move |enforcer| enforcer.release(&subject)).await
}

async fn attach(Extract(api): Extract<Arc<Api>>, Json(interface): Json<String>) -> Response {
    blocking(api, move |enforcer| enforcer.attach(&interface)).await
}

/// Events as they come, one JSON object a line.
async fn events(Extract(api): Extract<Arc<Api>>) -> Response {
    let shared = api.enforcer.shared.clone();
    let watching = (shared.hub.watch(), shared);
    Body::from_stream(futures_util::stream::unfold(watching, next_line)).into_response()
}

type Watching = (broadcast::Receiver<Arc<Event>>, Arc<Shared>);

async fn next_line((mut receiver, shared): Watching) -> Option<(Result<Bytes, Infallible>, Watching)> {
    let line = match receiver.recv().await {
        Ok(event) => serde_json::to_string(&*event),
        Err(RecvError::Lagged(missed)) => {
            shared.hub.note_missed(missed);
            serde_json::to_string(&shared.hub.event(timestamp(boot_time()), Kind::Missed(Missed { missed })))
        }
        Err(RecvError::Closed) => return None,
    };
    Some((Ok(Bytes::from(line.ok()? + "\n")), (receiver, shared)))
}
