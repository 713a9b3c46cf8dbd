//! The commands' end of the agent's socket.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::change::Change;
use bulkhead_api::request::Applied;
use bulkhead_api::route;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::exit::Usage;
use crate::paths::Paths;
use crate::version::VERSION;

/// How long an agent may be silent while a command waits for it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Between two questions whether it is alive.
const INTERVAL: Duration = Duration::from_secs(1);

/// Asks the agent; `None` if none is running.
///
/// # Errors
/// If the agent refuses, or its answer breaks off.
pub async fn ask(socket: &Path, method: Method, path: &str) -> anyhow::Result<Option<Response<Incoming>>> {
    send(socket, method, path, Vec::new()).await
}

/// Asks the agent and reads its answer; `None` if none is running, it is silent for `limit`, or it ends
/// before it has answered.
///
/// # Errors
/// If the agent refuses, or its answer breaks off.
pub async fn ask_within<T: serde::de::DeserializeOwned>(
    limit: Duration,
    socket: &Path,
    method: Method,
    path: &str,
) -> anyhow::Result<Option<T>> {
    let answer = async {
        match ask(socket, method, path).await? {
            Some(response) => Ok(Some(read(response).await?)),
            None => Ok(None),
        }
    };
    match tokio::time::timeout(limit, answer).await {
        Ok(Err(error)) if !broke_off(&error) => Err(error),
        Ok(answer) => Ok(answer.unwrap_or_default()),
        Err(_) => Ok(None),
    }
}

/// Whether it was because the agent ended before it had answered: just now, or earlier, and a
/// process that it was starting still had its socket open.
pub fn broke_off(error: &anyhow::Error) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(|error| !error.is_parse() && !error.is_user())
}

/// While it lives, a socket that the agent has closed is an error and does not end the command, as a
/// closed standard output does.
struct BrokenPipes(libc::sighandler_t);

impl BrokenPipes {
    fn are_errors() -> Self {
        // SAFETY: no handler of ours is replaced.
        Self(unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) })
    }
}

impl Drop for BrokenPipes {
    fn drop(&mut self) {
        // SAFETY: what was there before.
        unsafe { libc::signal(libc::SIGPIPE, self.0) };
    }
}

/// A piece of a body, which is sent as it is.
fn piece(bytes: Vec<u8>) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(Bytes::from(bytes)))
}

async fn send(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<Vec<u8>>,
) -> anyhow::Result<Option<Response<Incoming>>> {
    let _broken = BrokenPipes::are_errors();
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let next = "run this as root, or be in the group that [control] in agent.toml names";
            return Err(error).with_context(|| format!("{}: connecting; {next}", socket.display()));
        }
        Err(error) => return Err(error).with_context(|| format!("{}: connecting", socket.display())),
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("talking to the agent")?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "agent")
        .header("content-type", "application/json")
        .body(StreamBody::new(stream::iter(body.into_iter().map(piece))))?;
    let response = sender.send_request(request).await.context("asking the agent")?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        let words = response.into_body().collect().await.context("reading the agent's refusal")?.to_bytes();
        let words = String::from_utf8_lossy(&words);
        anyhow::ensure!(status != StatusCode::NOT_FOUND, other_version(path, &words));
        if status == StatusCode::BAD_REQUEST {
            return Err(Usage(words.into_owned()).into());
        }
        anyhow::bail!("the agent refused ({status}): {words}");
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

/// What an agent that has no such route is: of another version, which it may say itself.
fn other_version(path: &str, words: &str) -> String {
    let said = if words.is_empty() { String::new() } else { format!(" ({words})") };
    format!(
        "the running agent is of another version than this command, {VERSION}: it has no {path}{said}; restart it, and what \
         is enforced stays enforced meanwhile"
    )
}

/// Sends a command to the agent, which must be running, and reads its answer. It is waited for as long as
/// the agent shows that it runs, within the command's limit.
///
/// # Errors
/// If none runs, it is silent, it refuses, or its answer is not what it should be.
pub fn command<T: serde::de::DeserializeOwned>(
    paths: &Paths,
    path: &str,
    request: &impl serde::Serialize,
) -> anyhow::Result<T> {
    exchange(paths, path, vec![serde_json::to_vec(request)?])
}

/// Sends a policy, an inventory or both, as [`command`] does.
///
/// # Errors
/// As there.
pub fn change(paths: &Paths, path: &str, change: Change) -> anyhow::Result<Applied> {
    exchange(paths, path, change.into_body())
}

fn exchange<T: serde::de::DeserializeOwned>(
    paths: &Paths,
    path: &str,
    body: Vec<Vec<u8>>,
) -> anyhow::Result<T> {
    block_on(while_alive(paths, limit(path), async {
        let response = send(&paths.socket, Method::POST, path, body).await?.with_context(|| {
            format!("no agent listens at {}; start one with `bulkhead run`", paths.socket.display())
        })?;
        read(response).await
    }))
}

/// What a command may take, however often the agent says that it is alive: less where nothing is built.
fn limit(path: &str) -> Duration {
    let is_built = !matches!(path, route::QUARANTINE | route::RELEASE | route::CONFIRM);
    Duration::from_secs(if is_built { 600 } else { 20 })
}

/// Waits for an answer as long as the agent shows that it runs, and `limit` at most.
///
/// # Errors
/// If it does not, or the answer is an error.
pub async fn while_alive<T>(
    paths: &Paths,
    limit: Duration,
    answer: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let problem = tokio::select! {
        answer = answer => return answer,
        () = tokio::time::sleep(limit) => format!("has not answered within {} s", limit.as_secs()),
        () = silence(&paths.socket) => format!("has been silent for {} s", PATIENCE.as_secs()),
    };
    let Some(pid) = paths.holder() else {
        anyhow::bail!("the agent {problem}, and is not there any more; start one with `bulkhead run`");
    };
    let next = if is_stopped(pid) {
        format!(
            "it is stopped: `kill -CONT {pid}` lets it go on, and with this command, too, if it has heard of it"
        )
    } else {
        format!("end it by `kill -KILL {pid}` and start one with `bulkhead run`, then try again")
    };
    anyhow::bail!(
        "the agent (process {pid}) {problem}, and nothing is changed without it; what is enforced stays enforced. Next: {next}"
    )
}

/// Ends once the agent does not say any more that it is alive.
async fn silence(socket: &Path) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // Any answer is a sign of life; so is none where no agent listens, which the command says.
        if tokio::time::timeout(PATIENCE, ask(socket, Method::GET, route::ALIVE)).await.is_err() {
            return;
        }
    }
}

/// Whether a process is stopped, by a signal or by a debugger: its state in /proc/PID/stat behind its
/// name, which may hold anything.
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['T', 't']))
}

/// A runtime for one command.
///
/// # Errors
/// If the system refuses.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?.block_on(future)
}
