//! Batches from the fleet's servers.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_channel::{Client, EVENTS, Error, Settings, token};
use bulkhead_collect::{Outcome, Store};
use bulkhead_http::Tls;
use bytes::Bytes;
use serde_json::json;
use tokio::runtime::Handle;

/// Where the store notes the next message's number.
const POSITION: &str = "servers";

/// Messages after which that is noted. What is read again is passed over.
const NOTE: u64 = 32;

/// Between two looks whether the stream is still the one that was read.
const LOOK: Duration = Duration::from_secs(30);

/// The stream of what all hosts have sent.
pub(super) struct BrokerInbox {
    runtime: Handle,
    client: Client,
    /// The next message's number.
    next: u64,
    noted: u64,
    looked: Option<Instant>,
}

impl BrokerInbox {
    /// Goes on where the store was. Connects on the runtime that this is called on.
    ///
    /// # Errors
    /// If the settings are wrong, or the store cannot be read.
    pub(super) fn open(
        servers: &[String],
        credentials: &Path,
        ca: Option<&Path>,
        store: &Store,
    ) -> io::Result<Self> {
        let settings = Settings {
            servers: servers.to_vec(),
            credentials: Some(credentials.to_owned()),
            tls: Tls { ca: ca.map(Path::to_owned), identity: None },
            name: String::new(),
        };
        let client = Client::new(settings).map_err(io::Error::other)?;
        let next = store.noted(POSITION)?.unwrap_or(1);
        Ok(Self { runtime: Handle::current(), client, next, noted: next, looked: None })
    }

    /// Takes what is there, some hundreds at most. How many those were.
    ///
    /// # Errors
    /// If no server answers, or the store cannot keep it: then it is read again.
    pub(super) fn turn(
        &mut self,
        store: &Store,
        tell: &dyn Fn(&Path, &Outcome),
    ) -> io::Result<usize> {
        let mut count = 0;
        while count < 256 {
            let ask = json!({ "seq": self.next, "next_by_subj": "ev.*" }).to_string();
            let subject = format!("$JS.API.DIRECT.GET.{EVENTS}");
            let asked = self.client.request(&subject, &[], Bytes::from(ask));
            let message = self.runtime.block_on(asked).map_err(io::Error::other)?;
            match message.status {
                None => {}
                Some(404) => break,
                Some(status) => {
                    let words = format!("{subject}: {} (status {status})", message.description);
                    return Err(io::Error::other(words));
                }
            }
            let number: Option<u64> = message.header("Nats-Sequence").and_then(|number| number.parse().ok());
            let number = number.filter(|number| *number >= self.next);
            let number = number.ok_or_else(|| io::Error::other("the server answers with another message"))?;
            let subject = message.header("Nats-Subject").unwrap_or_default().to_owned();
            let from = subject.strip_prefix("ev.").and_then(node);
            let outcome = store.take(Some(from.as_deref().unwrap_or(&subject)), &message.payload)?;
            tell(Path::new(&subject), &outcome);
            self.next = number + 1;
            if self.next >= self.noted + NOTE {
                self.note(store)?;
            }
            count += 1;
        }
        if self.next != self.noted && count == 0 {
            self.note(store)?;
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.look(store)?;
            self.looked = Some(Instant::now());
        }
        Ok(count)
    }

    fn note(&mut self, store: &Store) -> io::Result<()> {
        store.note(POSITION, self.next)?;
        self.noted = self.next;
        Ok(())
    }

    /// A stream with fewer messages than were read is another one, or was restored: it is read from its beginning.
    fn look(&mut self, store: &Store) -> io::Result<()> {
        let subject = format!("$JS.API.STREAM.INFO.{EVENTS}");
        let asked = self.client.request(&subject, &[], Bytes::new());
        let answer = self.runtime.block_on(asked).map_err(io::Error::other)?;
        let info: serde_json::Value = serde_json::from_slice(&answer.payload)?;
        if let Some(last) = info["state"]["last_seq"].as_u64()
            && last.saturating_add(1) < self.next
        {
            tracing::warn!("the servers have {last} batches, and {} were read: all are read again", self.next - 1);
            self.next = 1;
            self.note(store)?;
        }
        Ok(())
    }
}

/// Whether an error will pass.
pub(super) fn is_passing(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    inner.is_some_and(Error::is_passing)
}

/// The node that a word of a subject stands for.
fn node(word: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), word.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'=' => u8::from_str_radix(str::from_utf8(&[rest.next()?, rest.next()?]).ok()?, 16).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|name| token(name) == word)
}

#[cfg(test)]
mod tests {
    use bulkhead_channel::token;

    use super::node;

    #[test]
    fn a_subject_names_one_node() {
        for name in ["db-1", "db.1", "a b", "\u{fc}", "=", "a=2e"] {
            assert_eq!(node(&token(name)).as_deref(), Some(name));
        }
        for word in ["a.b", "=4", "=zz", "=41"] {
            assert_eq!(node(word), None, "{word}");
        }
    }
}
