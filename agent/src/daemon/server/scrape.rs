//! Who asks for metrics: over the socket, and over HTTP on loopback where agent.toml has `[metrics]`.
//!
//! Whoever asks gets what was rendered within the last second, so that many who ask cost as much as one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State as Extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::current::current;
use super::metrics::{Sampled, render};
use super::status::flows;
use crate::daemon::state::{Enforcer, held};

/// For how long what was rendered is given to whoever asks.
const FRESH: Duration = Duration::from_secs(1);

/// How often flows are counted for who scrapes: that takes a look at every place of their table.
const FLOWS: Duration = Duration::from_secs(30);

/// The content type of Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What was rendered last, and flows as they were counted last.
#[derive(Default)]
pub struct Scrapes {
    /// Held while it is rendered: who comes meanwhile gets the same.
    rendered: tokio::sync::Mutex<Option<(Instant, String)>>,
    flows: Mutex<Option<[usize; 2]>>,
}

/// Answers a scrape.
pub async fn answer(scrapes: &Scrapes, enforcer: &Arc<Enforcer>) -> Response {
    let mut rendered = scrapes.rendered.lock().await;
    if let Some((_, text)) = rendered.as_ref().filter(|(when, _)| when.elapsed() < FRESH) {
        return ([(header::CONTENT_TYPE, CONTENT_TYPE)], text.clone()).into_response();
    }
    let counted = *held(&scrapes.flows);
    let enforcer = enforcer.clone();
    let read = move || {
        let status = current(&enforcer)?;
        let sampled = Sampled {
            flows: counted,
            flow_capacity: enforcer.setup.config.capacity.flows,
            applied: enforcer.live().ledger.applied / 1_000_000_000,
        };
        anyhow::Ok(render(&status, &sampled))
    };
    match tokio::task::spawn_blocking(read).await.map_err(anyhow::Error::from).flatten() {
        Ok(text) => {
            *rendered = Some((Instant::now(), text.clone()));
            ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
    }
}

/// Listens where agent.toml has it.
///
/// # Errors
/// If the address is not to be had.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("[metrics] listen = \"{address}\": listening"))
}

/// Serves `GET /metrics` until the process ends, and counts flows meanwhile.
pub async fn serve(
    listener: TcpListener,
    scrapes: Arc<Scrapes>,
    enforcer: Arc<Enforcer>,
) -> std::io::Result<()> {
    let counting = tokio::spawn(count_flows(scrapes.clone(), enforcer.clone()));
    let router = Router::new().route("/metrics", get(metrics)).with_state((scrapes, enforcer));
    let served = axum::serve(listener, router).await;
    counting.abort();
    served
}

async fn metrics(Extract((scrapes, enforcer)): Extract<(Arc<Scrapes>, Arc<Enforcer>)>) -> Response {
    answer(&scrapes, &enforcer).await
}

async fn count_flows(scrapes: Arc<Scrapes>, enforcer: Arc<Enforcer>) {
    loop {
        let enforcer = enforcer.clone();
        let counted = tokio::task::spawn_blocking(move || flows(enforcer.pins())).await;
        if let Ok(Ok(counted)) = counted {
            *held(&scrapes.flows) = counted;
        }
        tokio::time::sleep(FLOWS).await;
    }
}
