//! `GET /v1/flows`: the host's conversations, a part of the table at a time and only as fast as they are read.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Asked, State as Extract};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bulkhead_api::flow::Query;
use futures_util::stream;

use super::{Api, NDJSON, QUESTIONS, blocking, respond};
use crate::daemon::flows::{Known, Listing};
use crate::daemon::state::Enforcer;
use crate::exit::Usage;

/// Answers with one line for each flow that is meant, and one at the end.
pub async fn flows(Extract(api): Extract<Arc<Api>>, query: Result<Asked<Query>, QueryRejection>) -> Response {
    let begin = move |enforcer: &Enforcer| {
        let Asked(query) = query.map_err(|error| Usage(error.body_text()))?;
        Listing::begin(enforcer.pins(), Known::of_agent(enforcer), &query)
    };
    match blocking(&api, begin).await {
        Ok(listing) => {
            let lines = Body::from_stream(stream::try_unfold(listing, next));
            ([(header::CONTENT_TYPE, NDJSON)], lines).into_response()
        }
        Err(error) => respond::<()>(Err(error)),
    }
}

/// The next part that has lines. No thread is kept while whoever asks does not read.
async fn next(mut listing: Listing) -> anyhow::Result<Option<(Bytes, Listing)>> {
    loop {
        let _turn = QUESTIONS.acquire().await?;
        let part = tokio::task::spawn_blocking(move || {
            let part = listing.part();
            (listing, part)
        });
        let (after, part) = part.await?;
        match part? {
            None => return Ok(None),
            Some(lines) if !lines.is_empty() => return Ok(Some((Bytes::from(lines), after))),
            Some(_) => listing = after,
        }
    }
}
