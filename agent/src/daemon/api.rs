//! The agent's socket: HTTP over a Unix socket that only root may open.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use axum::body::{Body, Bytes};
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bulkhead::kernel::Pins;
use tokio::net::UnixListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::pump::Shared;
use super::status::{Agent, Status};
use crate::report::DropReport;

/// What the socket answers from.
pub struct Api {
    /// The instance.
    pub instance: String,
    /// Its pins.
    pub pins: Pins,
    /// What does not change while the agent runs; its events are filled in.
    pub agent: Agent,
    /// Reports and counts.
    pub shared: Arc<Shared>,
    /// Told to detach.
    pub detach: mpsc::Sender<()>,
}

/// Listens on the socket. A socket file of a dead agent is replaced.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let directory = path.parent().context("the socket has no directory")?;
    std::fs::create_dir_all(directory).with_context(|| format!("{}: creating it", directory.display()))?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{}: replacing it", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("{}: listening", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("{}: closing it to others", path.display()))?;
    Ok(listener)
}

/// Serves until the process ends.
pub async fn serve(listener: UnixListener, api: Arc<Api>) -> io::Result<()> {
    let router = Router::new()
        .route("/status", get(status))
        .route("/events", get(events))
        .route("/detach", post(detach))
        .with_state(api);
    axum::serve(listener, router).await
}

async fn status(Extract(api): Extract<Arc<Api>>) -> Response {
    let events = *api.shared.pumped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let agent = Agent { events, ..api.agent.clone() };
    match Status::read(&api.instance, &api.pins, Some(agent)) {
        Ok(status) => Json(status).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn detach(Extract(api): Extract<Arc<Api>>) -> Response {
    let links = match bulkhead::kernel::detach(&api.pins) {
        Ok(links) => links,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    // The agent ends after this answer; if it ends already, so much the better.
    let _ = api.detach.try_send(());
    Json(links).into_response()
}

/// Reports as they come, one JSON object a line.
async fn events(Extract(api): Extract<Arc<Api>>) -> Response {
    let receiver = api.shared.reports.subscribe();
    Body::from_stream(futures_util::stream::unfold(receiver, next_line)).into_response()
}

async fn next_line(
    mut receiver: broadcast::Receiver<DropReport>,
) -> Option<(Result<Bytes, Infallible>, broadcast::Receiver<DropReport>)> {
    let line = match receiver.recv().await {
        Ok(report) => serde_json::to_string(&report).ok()?,
        Err(RecvError::Lagged(missed)) => format!("{{\"missed\":{missed}}}"),
        Err(RecvError::Closed) => return None,
    };
    Some((Ok(Bytes::from(line + "\n")), receiver))
}
