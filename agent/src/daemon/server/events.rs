//! `GET /v1/events`: events as they come.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Asked, State as Extract};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bulkhead_api::event::{Event, Kind, Missed};
use bulkhead_api::request::{RECORDS, Watch};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Api, NDJSON, respond};
use crate::daemon::clock::boot_time;
use crate::daemon::events::{Shared, timestamp};
use crate::exit::Usage;

/// How long the event log is waited for, to learn where it joins what is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers with one JSON object a line, without an end.
pub async fn events(
    Extract(api): Extract<Arc<Api>>,
    query: Result<Asked<Watch>, QueryRejection>,
) -> Response {
    let Asked(asked) = match query {
        Ok(query) => query,
        Err(error) => return respond::<()>(Err(Usage(error.body_text()).into())),
    };
    let shared = api.enforcer.shared.clone();
    let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON))]);
    let receiver = if asked.records {
        let (tell, told) = oneshot::channel();
        let receiver = shared.hub.watch_from(|records| {
            // Whoever asked may be gone.
            let _ = tell.send(records);
        });
        if let Ok(Ok(records)) = timeout(PATIENCE, told).await {
            headers.insert(RECORDS, records.into());
        }
        receiver
    } else {
        shared.hub.watch()
    };
    let lines = Body::from_stream(futures_util::stream::unfold((receiver, shared), next_line));
    (headers, lines).into_response()
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
