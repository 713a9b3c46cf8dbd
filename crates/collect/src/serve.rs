//! The fleet page over HTTP: it can be read, and nothing else.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::node::now;
use crate::page::{POLICY, render};
use crate::standing::{Fleet, Limits};
use crate::store::Store;

/// What the page is made of.
#[derive(Clone)]
struct Served {
    store: Arc<Store>,
    limits: Limits,
    names: Arc<Vec<String>>,
}

/// The routes: `/` is the page, `/status.json` the same as JSON. A browser must have come by an address, by
/// `localhost`, or by one of `names`: a page from elsewhere that makes its own name lead here reads nothing.
pub fn router(store: Arc<Store>, limits: Limits, names: Vec<String>) -> Router {
    let served = Served { store, limits, names: Arc::new(names) };
    Router::new()
        .route("/", get(page))
        .route("/status.json", get(status))
        .layer(middleware::from_fn_with_state(served.clone(), guard))
        .with_state(served)
}

impl Served {
    fn fleet(&self) -> Fleet {
        Fleet::judge(self.store.standings(), now(), self.limits)
    }

    fn is_named(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

async fn page(State(served): State<Served>) -> Response {
    axum::response::Html(render(&served.fleet())).into_response()
}

async fn status(State(served): State<Served>) -> Response {
    axum::Json(served.fleet()).into_response()
}

async fn guard(State(served): State<Served>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let mut response = match host {
        Some(host) if served.is_named(host) => next.run(request).await,
        _ => (StatusCode::MISDIRECTED_REQUEST, "this is the fleet page of another name\n").into_response(),
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
