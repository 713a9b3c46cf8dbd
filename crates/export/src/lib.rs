//! Records of the event log in the formats of others: OCSF objects, OTLP logs, syslog messages. Pure: no I/O.
//!
//! A record has one uid in all of them ([`Exported::uid`]), by which who receives it twice can tell.

pub mod ocsf;
pub mod otlp;
mod severity;
pub mod syslog;

pub use severity::Severity;

use bulkhead_api::event::Kind;
use bulkhead_api::record::Record;
use serde_json::Value;

/// What receivers call this product.
pub const PRODUCT: &str = "bulkhead";

/// The form of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// An object of the Open Cybersecurity Schema Framework.
    #[default]
    Ocsf,
    /// The record as it is in the event log, byte by byte: its hash is that of the log's leaf.
    Bulkhead,
}

/// A record on its way out.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Its number in the event log.
    pub sequence: u64,
    /// The record's bytes in the event log.
    bytes: Vec<u8>,
    /// What they say; none if this version does not know such records.
    record: Option<Record>,
}

impl Exported {
    /// A record by its number in the event log and its bytes there.
    #[must_use]
    pub fn new(sequence: u64, bytes: Vec<u8>) -> Self {
        let record = Record::read(&bytes).ok();
        Self { sequence, bytes, record }
    }

    /// Its bytes in the event log.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says; none if this version does not know such records.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// What no other record has, also after a log was set aside: host, number, time (ns since the Unix epoch).
    #[must_use]
    pub fn uid(&self) -> String {
        match &self.record {
            Some(record) => format!("{}:{}:{}", record.host, self.sequence, record.event.time.unix()),
            None => format!(":{}:", self.sequence),
        }
    }

    /// What its event tells of, such as `drop`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.record.as_ref().map_or("unknown", |record| match &record.event.kind {
            Kind::Drop(_) => "drop",
            Kind::WouldDiffer(_) => "would_differ",
            Kind::Unenforced(_) => "unenforced",
            Kind::Control(_) => "control",
            Kind::Coverage(_) => "coverage",
            Kind::Balance(_) => "balance",
            Kind::Lost(_) => "lost",
            Kind::Missed(_) => "missed",
        })
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.record.as_ref().map_or(Severity::Low, |record| Severity::of(&record.event.kind))
    }

    /// One line of JSON, without its end.
    #[must_use]
    pub fn line(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Ocsf => ocsf::object(self).to_string().into_bytes(),
            // Canonical JSON has no white space; of what is none, a line's end must not be two records.
            Format::Bulkhead => {
                self.bytes.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect()
            }
        }
    }

    /// The same as a value; text if the bytes are no JSON.
    pub(crate) fn value(&self, format: Format) -> Value {
        match format {
            Format::Ocsf => ocsf::object(self),
            Format::Bulkhead => serde_json::from_slice(&self.bytes)
                .unwrap_or_else(|_| String::from_utf8_lossy(&self.bytes).into_owned().into()),
        }
    }
}
