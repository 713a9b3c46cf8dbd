//! Connections to the agent's socket, each bounded in time and memory until its request is whole.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::serve::Listener as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;

use super::limits::{Connections, OF_ONE, OF_OTHERS, Place};
use super::listener::Heard;
use super::paced::Paced;
use super::peer::Peer;

/// How long the next request's head may take, also on a connection that has had one.
const HEAD: Duration = Duration::from_secs(10);

/// The longest head; besides, what is read of a body at a time.
const LONGEST_HEAD: usize = 64 << 10;

/// Serves whoever connects until the process ends.
pub async fn serve(mut listener: Heard, router: Router) -> Infallible {
    let connections = Arc::new(Connections::default());
    loop {
        let (stream, _) = listener.accept().await;
        let peer = Peer::of(&stream);
        match connections.place(peer.uid) {
            Some(place) => drop(tokio::spawn(converse(stream, peer, router.clone(), place))),
            None => refuse(&stream, peer.uid),
        }
    }
}

/// Says that there is no place, as far as that is read.
fn refuse(stream: &UnixStream, uid: u32) {
    let words = format!(
        "user {uid} has too many connections, or all have: {OF_ONE} of one user, {OF_OTHERS} of all but root; close \
         some\n"
    );
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length:";
    // Who does not listen has lost nothing.
    let _ = stream.try_write(format!("{head} {}\r\n\r\n{words}", words.len()).as_bytes());
}

/// Answers the requests of one connection.
async fn converse(stream: UnixStream, peer: Peer, router: Router, place: Place) {
    let router = TowerToHyperService::new(router);
    let answer = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| Body::new(Paced::new(body)));
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        router.call(request)
    });
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LONGEST_HEAD);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!("a connection ended early: {error}");
    }
    drop(place);
}
