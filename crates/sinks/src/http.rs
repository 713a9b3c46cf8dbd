//! Requests over HTTP, each answered or failed.

use std::io;
use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::http::StatusCode;
use ureq::http::header::RETRY_AFTER;

use crate::outlet::{Failure, PATIENCE, named};
use crate::{settings, tls};

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What is read of an answer, bytes.
const ANSWER: u64 = 64 << 10;

/// The type of what people could read.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// Whom requests go to.
pub(crate) struct Client {
    agent: Agent,
    url: String,
    /// The URL without what may be secret in it.
    name: String,
    headers: Vec<(String, String)>,
}

/// What was answered.
pub(crate) struct Answer {
    pub status: StatusCode,
    /// When to ask again, if the answer says so.
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

impl Client {
    /// `headers` is a file, which is read now.
    pub(crate) fn new(url: &str, headers: Option<&Path>, tls: &settings::Tls) -> io::Result<Self> {
        let headers = headers.map(read_headers).transpose()?.unwrap_or_default();
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

    /// The URL, without what may be secret in it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// An error unless there was an answer, whatever its status.
    pub(crate) fn post(&self, content_type: &str, body: &[u8]) -> io::Result<Answer> {
        let mut request = self.agent.post(&self.url).header("content-type", content_type);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut answer = request.send(body).map_err(|error| self.named(&error.into_io()))?;
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = answer.body_mut().with_config().limit(ANSWER).read_to_vec();
        let body = body.map_err(|error| self.named(&error.into_io()))?;
        Ok(Answer { status: answer.status(), retry_after: after.map(Duration::from_secs), body })
    }

    /// What to say of an answer that is no success.
    pub(crate) fn refused(&self, answer: &Answer) -> Failure {
        let error = io::Error::other(format!("{} answers {}", self.name, answer.status));
        Failure { error, retry_after: answer.retry_after }
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
