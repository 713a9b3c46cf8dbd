//! Records of the event log: an event, and what a stranger needs to know of where it is from.

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::event::Event;

/// One record. Its bytes are canonical JSON (RFC 8785): one record has one text and one hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Record<E = Event> {
    /// The host's name (`uname -n`).
    pub host: String,
    /// Its number in the log, from 0: without a gap, so that none can be missing.
    pub sequence: u64,
    /// The clock that the event's time is by, when the record was written.
    pub clock: Clock,
    /// The files that the event's generation was made from; absent if there is none, or they are not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Digests>,
    /// The event.
    pub event: E,
}

/// The state of the wall clock, as the kernel says (adjtimex(2)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Clock {
    /// What it counts, such as `tsc` or `kvm-clock`.
    pub source: String,
    /// Whether it is kept in time with others (NTP, PTP).
    pub synchronized: bool,
    /// What it is still to be shifted by, ns.
    pub offset: i64,
    /// How wrong it may be, ns.
    pub error: i64,
}

/// What a generation was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Digests {
    /// SHA-256 of the policy file, hexadecimal.
    pub policy: String,
    /// SHA-256 of the inventory file, hexadecimal.
    pub inventory: String,
}

impl<E: Borrow<Event> + Serialize> Record<E> {
    /// Its canonical bytes: members sorted, no white space, numbers as integers, and only what must be is escaped.
    ///
    /// # Errors
    /// None that a record can bring about.
    pub fn canonical(&self) -> serde_json::Result<Vec<u8>> {
        let mut writer = RecordWriter::default();
        writer.canonical(self)?;
        Ok(writer.sorted)
    }
}

/// Makes the canonical bytes of one record after the other, in the same memory.
#[derive(Debug, Default)]
pub struct RecordWriter {
    text: Vec<u8>,
    sorted: Vec<u8>,
    room: Vec<u8>,
}

impl RecordWriter {
    /// As [`Record::canonical`].
    ///
    /// # Errors
    /// As there.
    pub fn canonical<E>(&mut self, record: &Record<E>) -> serde_json::Result<&[u8]>
    where
        E: Borrow<Event> + Serialize,
    {
        self.text.clear();
        // `serde_json` writes numbers and strings as RFC 8785 asks.
        serde_json::to_writer(&mut self.text, record)?;
        canonical::sort(&self.text, &mut self.sorted, &mut self.room);
        Ok(&self.sorted)
    }
}

impl Record {
    /// Reads the bytes of a record.
    ///
    /// # Errors
    /// If it is none that this version knows.
    pub fn read(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }

    /// The generation that its event is about, if it is about one.
    #[must_use]
    pub fn generation(event: &Event) -> Option<u32> {
        use crate::event::Kind;
        let number = match &event.kind {
            Kind::Drop(drop) => drop.generation,
            Kind::WouldDiffer(differs) => differs.staged.generation,
            Kind::Allowed(allowed) => allowed.first.generation,
            Kind::Unenforced(time) => time.generation,
            Kind::Control(control) => control.generation,
            Kind::Altered(altered) => altered.generation,
            Kind::Binding(binding) => binding.generation,
            Kind::Workload(change) => change.generation,
            Kind::Alarm(alarm) => alarm.generation,
            Kind::Coverage(_) | Kind::Balance(_) | Kind::Lost(_) | Kind::Missed(_) => return None,
        };
        (number != 0).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Digests, Record};
    use crate::event::{Event, Kind, Missed, Timestamp};

    #[test]
    fn one_record_has_one_text() {
        let event = Event {
            time: Timestamp::from_unix(1),
            node: "a\u{7f}\n\"/é\u{b}".to_owned(),
            kind: Kind::Missed(Missed { missed: 7 }),
        };
        let clock = Clock { source: "tsc".to_owned(), synchronized: true, offset: -5, error: 16 };
        let files = Some(Digests { policy: "p".to_owned(), inventory: "i".to_owned() });
        let record = Record { host: "oms-1".to_owned(), sequence: 3, clock, files, event };
        assert_eq!(
            String::from_utf8(record.canonical().unwrap()).unwrap(),
            "{\"clock\":{\"error\":16,\"offset\":-5,\"source\":\"tsc\",\"synchronized\":true},\
             \"event\":{\"kind\":\"missed\",\"missed\":7,\"node\":\"a\u{7f}\\n\\\"/é\\u000b\",\
             \"time\":\"1970-01-01T00:00:00.000000001Z\"},\
             \"files\":{\"inventory\":\"i\",\"policy\":\"p\"},\"host\":\"oms-1\",\"sequence\":3}"
        );
    }
}
