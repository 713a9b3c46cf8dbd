//! OTLP over HTTP. A receiver confirms each request.

use std::io;
use std::path::Path;
use std::time::Duration;

use bulkhead_export::{Exported, Format, otlp};
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::http::header::RETRY_AFTER;

use super::{Failure, Outlet, Sent, file::named};
use crate::{settings, tls};

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What is read of an answer, bytes.
const ANSWER: u64 = 64 << 10;

/// A receiver.
pub(crate) struct Http {
    agent: Agent,
    url: String,
    /// The URL without what may be secret in it.
    name: String,
    headers: Vec<(String, String)>,
    host: String,
    format: Format,
    /// Records that it takes at once: fewer once it has said that there were too many, and slowly more again.
    most: usize,
}

impl Http {
    pub(crate) fn new(
        url: &str,
        headers: Option<&Path>,
        tls: &settings::Tls,
        host: &str,
        format: Format,
    ) -> io::Result<Self> {
        let headers = headers.map(read_headers).transpose()?.unwrap_or_default();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(LIMIT))
            .timeout_connect(Some(super::PATIENCE))
            // A host's own records do not go to whatever proxy an environment names.
            .proxy(None);
        if url.starts_with("https:") {
            config = config.tls_config(tls::for_http(tls)?);
        }
        let agent = config.build().new_agent();
        let (name, url, host) = (without_secrets(url), url.to_owned(), host.to_owned());
        Ok(Self { agent, url, name, headers, host, format, most: usize::MAX })
    }
}

impl Outlet for Http {
    fn send(&mut self, records: &[Exported]) -> Result<Sent, Failure> {
        let records = &records[..records.len().min(self.most)];
        let mut request = self.agent.post(&self.url).header("content-type", otlp::CONTENT_TYPE);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = otlp::request(records, self.format, &self.host);
        let sent = request.send(&body[..]).map_err(|error| error.into_io());
        let mut answer = sent.map_err(|error| self.named(&error))?;
        let status = answer.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return match records {
                // However often it is tried, it stays too large.
                [_] => Ok(Sent { taken: 1, refused: 1 }),
                _ => {
                    self.most = records.len() / 2;
                    self.send(records)
                }
            };
        }
        if !status.is_success() {
            let seconds =
                answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let error = io::Error::other(format!("{} answers {status}", self.name));
            return Err(Failure { error, retry_after: seconds.map(Duration::from_secs) });
        }
        let answer =
            answer.body_mut().with_config().limit(ANSWER).read_to_vec().map_err(|error| error.into_io())?;
        let refused = otlp::rejected(&answer).map_or(0, |(refused, why)| {
            tracing::warn!("{} has refused {refused} records: {why}", self.name);
            refused
        });
        if records.len() == self.most {
            self.most += self.most / 8 + 1;
        }
        Ok(Sent { taken: records.len(), refused })
    }
}

impl Http {
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
