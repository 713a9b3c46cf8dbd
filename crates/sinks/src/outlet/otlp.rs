//! OTLP over HTTP. A receiver confirms each request.

use std::io;
use std::path::Path;

use bulkhead_export::{Exported, Format, otlp};
use bulkhead_http::{Client, StatusCode, Tls};

use super::{Failure, Outlet, Sent};

/// A receiver.
pub(crate) struct Http {
    client: Client,
    host: String,
    format: Format,
    /// Records that it takes at once: fewer once it has said that there were too many, and slowly more again.
    most: usize,
}

impl Http {
    pub(crate) fn new(
        url: &str,
        headers: Option<&Path>,
        tls: &Tls,
        host: &str,
        format: Format,
    ) -> io::Result<Self> {
        let client = Client::new(url, headers, tls)?;
        Ok(Self { client, host: host.to_owned(), format, most: usize::MAX })
    }
}

impl Outlet for Http {
    fn send(&mut self, records: &[Exported]) -> Result<Sent, Failure> {
        let records = &records[..records.len().min(self.most)];
        let answer =
            self.client.post(otlp::CONTENT_TYPE, &otlp::request(records, self.format, &self.host))?;
        if answer.status == StatusCode::PAYLOAD_TOO_LARGE {
            return match records {
                // However often it is tried, it stays too large.
                [_] => Ok(Sent { taken: 1, refused: 1 }),
                _ => {
                    self.most = records.len() / 2;
                    self.send(records)
                }
            };
        }
        if !answer.status.is_success() {
            return Err(Failure::answered(&self.client, &answer));
        }
        let refused = otlp::rejected(&answer.body).map_or(0, |(refused, why)| {
            tracing::warn!("{} has refused {refused} records: {why}", self.client.name());
            refused
        });
        if records.len() == self.most {
            self.most += self.most / 8 + 1;
        }
        Ok(Sent { taken: records.len(), refused })
    }
}
