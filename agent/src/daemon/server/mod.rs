//! The agent's socket: HTTP over a Unix socket that root may open, and groups that agent.toml names.

pub mod account;
pub mod alone;
pub mod budget;
mod changes;
mod connections;
pub mod current;
mod events;
mod flows;
pub mod history;
mod limits;
mod listener;
mod metrics;
mod paced;
mod peer;
pub mod rights;
pub mod scrape;
pub mod status;
mod underlay;

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::{DefaultBodyLimit, State as Extract};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use budget::Budget;
use bulkhead_api::route::{self, Version};
use bulkhead_host::spare;
use current::current;
use rights::Rights;
use rustix::fs::{Gid, Mode};
use scrape::Scrapes;
use serde::Serialize;
use socket2::{Domain, SockAddr, Socket, Type};
use status::with_flows;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};

use crate::daemon::clock::wall_time;
use crate::daemon::server::listener::Heard;
use crate::daemon::state::Enforcer;
use crate::daemon::tls;
use crate::exit::Usage;
use crate::paths::Paths;
use crate::version::{COMMIT, VERSION};

/// Commands that may wait to be heard.
const BACKLOG: i32 = 128;

/// The content type of one JSON object a line.
const NDJSON: &str = "application/x-ndjson";

/// The longest body of a request that is not a change, whose texts have bounds of their own.
const LONGEST_BODY: usize = 64 << 10;

/// Questions that are worked on at a time: they leave threads and processors to what must go on.
static QUESTIONS: Semaphore = Semaphore::const_new(4);

/// What the socket answers from.
pub struct Api {
    /// Makes changes, and knows what runs.
    pub enforcer: Arc<Enforcer>,
    /// Told to detach.
    pub detach: mpsc::Sender<()>,
    /// Metrics, for whoever asks for them.
    pub scrapes: Arc<Scrapes>,
    /// One change of the generation at a time. Whoever waits for it keeps no thread from others.
    pub changes: tokio::sync::Mutex<()>,
    /// What the texts of all changes may take.
    pub budget: Budget,
    /// Who may do what.
    pub rights: Rights,
}

/// Listens on the socket, whose directory is there. A socket file of a dead agent is replaced. A group that may
/// not be let in is told of, and stays outside.
pub fn listen(paths: &Paths, rights: &mut Rights) -> anyhow::Result<UnixListener> {
    let path = &paths.socket;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{}: replacing it", path.display()));
        }
        _ => {}
    }
    let listener = bind(path).with_context(|| format!("{}: listening", path.display()))?;
    if let Some(Err(error)) = rights.read.map(|group| open_to(paths, group)) {
        rights.warnings.push(format!(
            "{error:#}: members of no group may use the socket; where the agent may not change groups, put it into \
             that one, as SupplementaryGroups= of its unit does"
        ));
    }
    Ok(listener)
}

/// Opens the socket, which is there, to a group.
fn open_to(paths: &Paths, group: u32) -> anyhow::Result<()> {
    let socket = &paths.socket;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP;
    rustix::fs::chown(socket, None, Some(Gid::from_raw(group)))
        .and_then(|()| rustix::fs::chmod(socket, mode))
        .with_context(|| format!("{}: opening it to group {group}", socket.display()))?;
    paths.let_through().map_err(Into::into)
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
pub async fn serve(listener: UnixListener, api: Arc<Api>) -> Infallible {
    let router = Router::new()
        .route(route::VERSIONS, get(version))
        // For a command that waits for its answer. It waits for no lock.
        .route(route::ALIVE, get(async || StatusCode::OK))
        .route(route::STATUS, get(status))
        .route(route::HISTORY, get(past))
        .route(route::METRICS, get(metrics))
        .route(route::TLS, get(covered))
        .route(route::EVENTS, get(events::events))
        .route(route::FLOWS, get(flows::flows))
        .route(route::DETACH, post(changes::detach))
        .route(route::APPLY, post(changes::apply))
        .route(route::CONFIRM, post(changes::confirm))
        .route(route::ROLLBACK, post(changes::rollback))
        .route(route::STAGE, post(changes::stage))
        .route(route::UNSTAGE, post(changes::unstage))
        .route(route::PROMOTE, post(changes::promote))
        .route(route::QUARANTINE, post(changes::quarantine))
        .route(route::RELEASE, post(changes::release))
        .route(route::GRANTS, get(granted))
        .route(route::GRANT, post(changes::grant))
        .route(route::REVOKE, post(changes::revoke))
        .route(route::ACCEPT, post(changes::accept))
        .route(route::RESUME, post(changes::resume))
        .route(route::NOTE, post(changes::note))
        .route(route::ATTACH, post(changes::attach))
        .fallback(unknown)
        .layer(from_fn_with_state(api.clone(), rights::check))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(api);
    connections::serve(Heard(listener), router).await
}

/// Works on a thread that may block.
async fn blocking<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Enforcer) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let _turn = QUESTIONS.acquire().await?;
    let enforcer = api.enforcer.clone();
    let work = move || {
        // Whoever asks why is to be told.
        let _lent = spare::is_short().then(spare::lend);
        work(&enforcer)
    };
    tokio::task::spawn_blocking(work).await.map_err(anyhow::Error::from).flatten()
}

/// An answer in JSON: 400 for what the caller named wrongly, 500 for what the system refused.
fn respond<T: Serialize>(answer: anyhow::Result<T>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            let code =
                if error.is::<Usage>() { StatusCode::BAD_REQUEST } else { StatusCode::INTERNAL_SERVER_ERROR };
            (code, format!("{error:#}")).into_response()
        }
    }
}

async fn status(Extract(api): Extract<Arc<Api>>) -> Response {
    let read = |enforcer: &Enforcer| Ok(with_flows(current(enforcer)?, enforcer.pins())?);
    let mut status = blocking(&api, read).await;
    if let Some(agent) = status.as_mut().ok().and_then(|status| status.agent.as_mut()) {
        agent.warnings.extend(api.rights.warnings.iter().cloned());
    }
    respond(status)
}

/// What was put in force.
async fn past(Extract(api): Extract<Arc<Api>>) -> Response {
    let read = |enforcer: &Enforcer| {
        // As the agent knows it, whatever has become of the file.
        let ledger = enforcer.live().ledger.clone();
        Ok(history::history(&enforcer.store, &ledger))
    };
    respond(blocking(&api, read).await)
}

/// What is granted for a time, and what was.
async fn granted(Extract(api): Extract<Arc<Api>>) -> Response {
    let now = (wall_time() / 1_000_000_000).cast_signed();
    respond(blocking(&api, move |enforcer| Ok(enforcer.setup.options.grants.entries(now))).await)
}

/// TLS at this host's service ports.
async fn covered(Extract(api): Extract<Arc<Api>>) -> Response {
    respond(blocking(&api, tls::coverage).await)
}

/// Metrics for Prometheus.
async fn metrics(Extract(api): Extract<Arc<Api>>) -> Response {
    scrape::answer(&api.scrapes, &api.enforcer).await
}

async fn version() -> Json<Version> {
    Json(Version { version: VERSION.to_owned(), commit: COMMIT.to_owned(), api: route::VERSION })
}

/// What is asked for by another version's route.
async fn unknown() -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("the agent's version is {VERSION}"))
}
