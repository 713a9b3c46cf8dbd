//! Requests over HTTP, each answered or failed.

use std::io;
use std::path::Path;
use std::time::Duration;

use ureq::http::header::RETRY_AFTER;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::tls::{self, Tls};

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What is read of an answer to what is told, bytes.
const ANSWER: u64 = 64 << 10;

/// The type of what people could read.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Whom requests go to.
pub struct Client {
    agent: Agent,
    url: String,
    /// The URL without what may be secret in it.
    name: String,
    headers: Vec<(String, String)>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// When to ask again, if the answer says so.
    pub retry_after: Option<Duration>,
    /// Its content.
    pub body: Vec<u8>,
}

impl Client {
    /// For a URL. `headers` is a file, one `Name: value` a line, which is read now.
    ///
    /// # Errors
    /// If a file cannot be read or understood.
    pub fn new(url: &str, headers: Option<&Path>, tls: &Tls) -> io::Result<Self> {
        let headers = headers.map(read_headers).transpose()?.unwrap_or_default();
        Self::with(url, headers, tls)
    }

    /// For a URL, with these headers in each request.
    ///
    /// # Errors
    /// If a file of TLS cannot be read or understood.
    pub fn with(url: &str, headers: Vec<(String, String)>, tls: &Tls) -> io::Result<Self> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(LIMIT))
            .timeout_connect(Some(PATIENCE))
            // A host's own records do not go to whatever proxy an environment names.
            .proxy(None);
        if url.starts_with("https:") {
            config = config.tls_config(tls::for_http(tls)?);
        }
        let agent = config.build().new_agent();
        Ok(Self { agent, url: url.to_owned(), name: without_secrets(url), headers })
    }

    /// The same for another path of the same server: the URL with `path` behind it.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        Self { agent: self.agent.clone(), name: without_secrets(&url), url, headers: self.headers.clone() }
    }

    /// The URL, without what may be secret in it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells something. An answer is one whatever its status.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn post(&self, content_type: &str, body: &[u8]) -> io::Result<Answer> {
        let mut request = self.agent.post(&self.url).header("content-type", content_type);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = request.send(body).map_err(|error| self.named(&error.into_io()))?;
        self.read(answer, ANSWER)
    }

    /// Asks for something, of which at most so many bytes are read. An answer is one whatever its status.
    ///
    /// # Errors
    /// If there is no answer, or it is longer.
    pub fn get(&self, longest: u64) -> io::Result<Answer> {
        let mut request = self.agent.get(&self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = request.call().map_err(|error| self.named(&error.into_io()))?;
        self.read(answer, longest)
    }

    fn read(&self, mut answer: Response<Body>, longest: u64) -> io::Result<Answer> {
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = answer.body_mut().with_config().limit(longest).read_to_vec();
        let body = body.map_err(|error| self.named(&error.into_io()))?;
        Ok(Answer { status: answer.status(), retry_after: after.map(Duration::from_secs), body })
    }

    fn named(&self, error: &io::Error) -> io::Error {
        // What an error says of a URL is not repeated.
        let words = error.to_string().replace(&self.url, &self.name);
        io::Error::new(error.kind(), format!("{}: {words}", self.name))
    }
}

/// Scheme, host, port and path of a URL: not a user's password, nor a query that may hold a key.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "the receiver".to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// Headers, one a line: `Name: value`.
fn read_headers(path: &Path) -> io::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).map_err(|error| named(path, &error))?;
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let header = |(index, line): (usize, &str)| {
        let (name, value) = line.split_once(':').ok_or_else(|| {
            // A line may be a secret, and is not repeated.
            let words = format!("{}:{}: is no header such as `Authorization: …`", path.display(), index + 1);
            io::Error::new(io::ErrorKind::InvalidData, words)
        })?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    lines.map(header).collect()
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
