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
    headers: Vec<(String, String)>,
    host: String,
    format: Format,
    /// Records that it takes at once: fewer once it has said that there were too many.
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
        Ok(Self { agent, url: url.to_owned(), headers, host: host.to_owned(), format, most: usize::MAX })
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
        let mut answer = request.send(&body[..]).map_err(|error| error.into_io())?;
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
            let error = io::Error::other(format!("{} answers {status}", self.url));
            return Err(Failure { error, retry_after: seconds.map(Duration::from_secs) });
        }
        let answer =
            answer.body_mut().with_config().limit(ANSWER).read_to_vec().map_err(|error| error.into_io())?;
        let refused = otlp::rejected(&answer).map_or(0, |(refused, why)| {
            tracing::warn!("{} has refused {refused} records: {why}", self.url);
            refused
        });
        Ok(Sent { taken: records.len(), refused })
    }
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
