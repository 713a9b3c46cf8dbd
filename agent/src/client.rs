//! The commands' end of the agent's socket.

use std::io;
use std::path::Path;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Asks the agent; `None` if none is running.
///
/// # Errors
/// If the agent refuses, or its answer breaks off.
pub async fn ask(socket: &Path, method: Method, path: &str) -> anyhow::Result<Option<Response<Incoming>>> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("{}: connecting", socket.display())),
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("talking to the agent")?;
    tokio::spawn(connection);
    let request =
        Request::builder().method(method).uri(path).header("host", "agent").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("asking the agent")?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        let words = response.into_body().collect().await.context("reading the agent's refusal")?.to_bytes();
        anyhow::bail!("the agent refused ({status}): {}", String::from_utf8_lossy(&words));
    }
    Ok(Some(response))
}

/// The whole answer.
///
/// # Errors
/// If it breaks off or is not what it should be.
pub async fn read<T: serde::de::DeserializeOwned>(response: Response<Incoming>) -> anyhow::Result<T> {
    let bytes = response.into_body().collect().await.context("reading the agent's answer")?.to_bytes();
    serde_json::from_slice(&bytes).context("the agent's answer is not understood; is it of another version?")
}

/// A runtime for one command.
///
/// # Errors
/// If the system refuses.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?.block_on(future)
}
