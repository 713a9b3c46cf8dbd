//! Who asks for metrics: over the socket, and over HTTP on loopback where agent.toml has `[metrics]`.
//!
//! Whoever asks gets what was rendered within the last second, so that many who ask cost as much as one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State as Extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::current::current;
use super::metrics::{Sampled, render};
use super::status::flows;
use crate::daemon::state::{Enforcer, held};

/// For how long what was rendered is given to whoever asks.
const FRESH: Duration = Duration::from_secs(1);

/// How often flows are counted for who scrapes: that takes a look at every place of their table.
const FLOWS: Duration = Duration::from_secs(30);

/// Connections at a time.
const CONNECTIONS: usize = 16;

/// How long a request's head may take, and all of a scrape.
const HEAD: Duration = Duration::from_secs(5);
const ALTOGETHER: Duration = Duration::from_secs(10);

/// The longest head.
const LONGEST_HEAD: usize = 16 << 10;

/// After a failure.
const PAUSE: Duration = Duration::from_millis(100);

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

/// Serves `GET /metrics` until the process ends, and counts flows meanwhile. Whoever is on this host may connect, so
/// each connection is one request, and bounded in number, time and memory.
pub async fn serve(listener: TcpListener, scrapes: Arc<Scrapes>, enforcer: Arc<Enforcer>) -> Infallible {
    let router =
        Router::new().route("/metrics", get(metrics)).with_state((scrapes.clone(), enforcer.clone()));
    let counting = tokio::spawn(count_flows(scrapes, enforcer));
    let never = accept(listener, router).await;
    counting.abort();
    never
}

async fn accept(listener: TcpListener, router: Router) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Who comes when there is no place waits in the kernel's queue, which is bounded, too.
        let Ok(place) = places.clone().acquire_owned().await else { return std::future::pending().await };
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, router.clone(), place))),
            Err(error) => {
                tracing::debug!("hearing who scrapes: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, router: Router, place: OwnedSemaphorePermit) {
    let service = TowerToHyperService::new(router);
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LONGEST_HEAD).keep_alive(false);
    let conversation = builder.serve_connection(TokioIo::new(stream), service);
    // Neither who asks slowly nor who does not read keeps a place from others.
    match timeout(ALTOGETHER, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a scrape ended early: {error}"),
        Err(_) => tracing::debug!("a scrape took longer than {} s", ALTOGETHER.as_secs()),
    }
    drop(place);
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
        sleep(FLOWS).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a scrape is answered.
    async fn ask(address: SocketAddr, words: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // One that is cut off may have been answered before.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn who_asks_slowly_or_too_much_is_cut_off_and_keeps_nobody_out_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let long = "x".repeat(4 << 20);
        let router = Router::new().route("/metrics", get(move || std::future::ready(long.clone())));
        let accepting = tokio::spawn(accept(listener, router));
        let good = "GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n";
        assert!(ask(address, good).await.starts_with("HTTP/1.1 200"));
        let endless = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\n\r\n", "h".repeat(4 * LONGEST_HEAD));
        assert!(!ask(address, &endless).await.starts_with("HTTP/1.1 200"));

        // Half of them never ask, the others never read.
        let began = Instant::now();
        let mut slow = Vec::new();
        for number in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(good.as_bytes()).await.unwrap();
            }
            slow.push(stream);
        }
        let answer =
            timeout(2 * ALTOGETHER, ask(address, good)).await.expect("nobody keeps others out for long");
        assert!(answer.starts_with("HTTP/1.1 200"));
        assert!(began.elapsed() > HEAD / 2, "all places were taken");
        accepting.abort();
    }
}
