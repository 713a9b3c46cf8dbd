//! What `apply` and `stage` ask for, and how it travels: the texts of files, not their names, which may mean
//! another file to the agent, or none.
//!
//! The body is a line of JSON, then the policy's text and the inventory's, as they are. So neither is escaped,
//! nor held twice on the way.

use serde::{Deserialize, Serialize};

use crate::mode::Mode;
use crate::request;
use crate::session::Session;
use crate::text::is_plain;

/// The longest text of a file: an inventory of several million nodes.
pub const LONGEST: u64 = 1 << 30;

/// The longest name, as of paths (`PATH_MAX` of linux/limits.h).
const LONGEST_NAME: usize = 4096;

/// The longest first line.
const LONGEST_HEAD: usize = 1 << 16;

/// A file that the caller has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What messages call it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A change of what is enforced, or what is to be staged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The policy; none: the one that `run` names.
    pub policy: Option<Text>,
    /// The inventory; none: the one that `run` names.
    pub inventory: Option<Text>,
    /// The note of who has signed both; none: the one that agent.toml names.
    pub note: Option<String>,
    /// Enforce or audit; none: as now.
    pub mode: Option<Mode>,
    /// Seconds to confirm within; none: it stays.
    pub confirm: Option<u64>,
    /// Say what it would change, and change nothing.
    pub dry_run: bool,
    /// The session that it must not cut; none: whatever it cuts is meant.
    pub session: Option<Session>,
}

/// The body's first line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "ChangeHead"))]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    policy: Option<Announced>,
    inventory: Option<Announced>,
    /// The signed note over both, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    mode: Option<Mode>,
    confirm: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<Session>,
}

/// A text that follows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Announced {
    name: String,
    bytes: u64,
}

/// Why a body is none of a change.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// The first line.
    #[error(
        "the request's first line is not understood ({0}): the command is of another version than the agent"
    )]
    Head(String),
    /// A name that would deceive whoever reads it in a terminal or a log.
    #[error("a file's name is one line without control characters, and no longer than {LONGEST_NAME} bytes")]
    Name,
    /// A text that is announced as longer than any.
    #[error("{name} is longer than {LONGEST} bytes: no policy or inventory")]
    TooLong {
        /// The file's name.
        name: String,
    },
    /// A text for which there is no memory.
    #[error("{name}: no memory for its {bytes} bytes")]
    NoMemory {
        /// The file's name.
        name: String,
        /// Its length.
        bytes: u64,
    },
    /// Texts for which there is no room beside those of others.
    #[error("others are sending as much as is taken at a time: send it again in a few seconds")]
    Busy,
    /// A text that is no UTF-8.
    #[error("{name} is not UTF-8 text")]
    NoText {
        /// The file's name.
        name: String,
    },
    /// Another length than was announced.
    #[error("the request broke off, or goes on behind its end: send it again")]
    Length,
}

impl Change {
    /// The body, in pieces that follow each other.
    #[must_use]
    pub fn into_body(self) -> Vec<Vec<u8>> {
        let announced = |text: &Text| Announced { name: text.name.clone(), bytes: text.text.len() as u64 };
        let head = Head {
            policy: self.policy.as_ref().map(announced),
            inventory: self.inventory.as_ref().map(announced),
            note: self.note,
            mode: self.mode,
            confirm: self.confirm,
            dry_run: self.dry_run,
            session: self.session,
        };
        // Strings and numbers always serialise.
        let head = serde_json::json!(head).to_string() + "\n";
        let texts = [self.policy, self.inventory].into_iter().flatten().map(|text| text.text.into_bytes());
        std::iter::once(head.into_bytes()).chain(texts).collect()
    }
}

/// Puts a change together from the pieces in which its body comes.
#[derive(Debug, Default)]
pub struct Reader<A> {
    line: Vec<u8>,
    head: Option<Head>,
    /// The texts that are announced, and what has come of each.
    texts: Vec<(Announced, Vec<u8>)>,
    admit: A,
}

impl<A: FnMut(u64) -> bool> Reader<A> {
    /// Of a body whose texts may come if `admit` says so of their bytes, before there is memory for them.
    pub const fn new(admit: A) -> Self {
        Self { line: Vec::new(), head: None, texts: Vec::new(), admit }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// What is wrong with the body.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        let mut rest = piece;
        if self.head.is_none() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            self.line.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
            if self.line.len() > LONGEST_HEAD {
                return Err(Malformed::Head("it is too long".to_owned()));
            }
            let Some(end) = end else { return Ok(()) };
            rest = &rest[end + 1..];
            self.begin()?;
        }
        for (announced, text) in &mut self.texts {
            let missing = (announced.bytes as usize).saturating_sub(text.len());
            let (now, later) = rest.split_at(missing.min(rest.len()));
            text.extend_from_slice(now);
            rest = later;
        }
        if rest.is_empty() { Ok(()) } else { Err(Malformed::Length) }
    }

    /// Makes room for what the first line announces.
    fn begin(&mut self) -> Result<(), Malformed> {
        let head: Head = request::read(&self.line).map_err(|error| Malformed::Head(error.to_string()))?;
        let announced: Vec<Announced> =
            [&head.policy, &head.inventory].into_iter().flatten().cloned().collect();
        for Announced { name, bytes } in announced.clone() {
            if name.len() > LONGEST_NAME || !is_plain(&name) {
                return Err(Malformed::Name);
            }
            if bytes > LONGEST {
                return Err(Malformed::TooLong { name });
            }
        }
        if !(self.admit)(announced.iter().map(|announced| announced.bytes).sum()) {
            return Err(Malformed::Busy);
        }
        for announced in announced {
            let Announced { name, bytes } = announced.clone();
            let mut text = Vec::new();
            text.try_reserve_exact(bytes as usize).map_err(|_| Malformed::NoMemory { name, bytes })?;
            self.texts.push((announced, text));
        }
        self.head = Some(head);
        Ok(())
    }

    /// The change, once the body is over.
    ///
    /// # Errors
    /// It broke off, or a text is none.
    pub fn finish(self) -> Result<Change, Malformed> {
        let head = self.head.ok_or(Malformed::Length)?;
        let mut texts = self.texts.into_iter().map(|(Announced { name, bytes }, text)| {
            if text.len() as u64 != bytes {
                return Err(Malformed::Length);
            }
            match String::from_utf8(text) {
                Ok(text) => Ok(Text { name, text }),
                Err(_) => Err(Malformed::NoText { name }),
            }
        });
        let policy = head.policy.and_then(|_| texts.next()).transpose()?;
        let inventory = head.inventory.and_then(|_| texts.next()).transpose()?;
        Ok(Change {
            policy,
            inventory,
            note: head.note,
            mode: head.mode,
            confirm: head.confirm,
            dry_run: head.dry_run,
            session: head.session,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, LONGEST, Malformed, Reader, Text};
    use crate::mode::Mode;
    use crate::session::Session;

    fn text(name: &str, text: &str) -> Option<Text> {
        Some(Text { name: name.to_owned(), text: text.to_owned() })
    }

    fn read(pieces: &[&[u8]]) -> Result<Change, Malformed> {
        let mut reader = Reader::new(|_| true);
        pieces.iter().try_for_each(|piece| reader.take(piece))?;
        reader.finish()
    }

    #[test]
    fn a_change_arrives_as_it_was_sent_in_whatever_pieces() {
        let [client, server] = ["[2001:db8::9]:50122", "10.0.0.1:22"].map(|end| end.parse().unwrap());
        let session = Session { client, server };
        let policy = text("/dev/stdin", "{\"a\": \"\\n\u{e9}\"}\n");
        for change in [
            Change::default(),
            Change { policy: policy.clone(), ..Change::default() },
            Change { inventory: text("i \"x\"", ""), mode: Some(Mode::Audit), ..Change::default() },
            Change { policy, inventory: text("i", "{}\n\n"), confirm: Some(60), ..Change::default() },
            Change { dry_run: true, session: Some(session), ..Change::default() },
        ] {
            let body = change.clone().into_body().concat();
            assert_eq!(read(&[&body]).unwrap(), change);
            let bytes: Vec<&[u8]> = body.chunks(1).collect();
            assert_eq!(read(&bytes).unwrap(), change);
            assert!(matches!(read(&[&body[..body.len() - 1]]), Err(Malformed::Length)));
            assert!(matches!(read(&[&body, b"x"]), Err(Malformed::Length)));
        }
    }

    #[test]
    fn texts_have_no_memory_before_they_are_admitted() {
        let head =
            br#"{"policy": {"name": "p", "bytes": 1000000000}, "inventory": {"name": "i", "bytes": 5}}"#;
        let mut asked = Vec::new();
        let mut reader = Reader::new(|bytes| {
            asked.push(bytes);
            false
        });
        reader.take(head).unwrap();
        assert!(matches!(reader.take(b"\n"), Err(Malformed::Busy)));
        assert!(reader.texts.is_empty());
        drop(reader);
        assert_eq!(asked, [1_000_000_005]);
    }

    #[test]
    fn a_body_is_bounded() {
        let head = |bytes: u64| format!("{{\"policy\": {{\"name\": \"p\", \"bytes\": {bytes}}}}}\n");
        let too_long = read(&[head(LONGEST + 1).as_bytes()]).unwrap_err();
        assert_eq!(too_long.to_string(), "p is longer than 1073741824 bytes: no policy or inventory");
        assert!(matches!(read(&[&vec![b' '; 1 << 17]]), Err(Malformed::Head(_))));
        assert!(matches!(read(&[b"[]\n"]), Err(Malformed::Head(_))));
        assert!(matches!(read(&[b"{\"confrim\": 60}\n"]), Err(Malformed::Head(_))), "nothing is passed over");
        let deceives = br#"{"policy": {"name": "p\u001b[2J", "bytes": 0}}"#;
        assert!(matches!(read(&[deceives, b"\n"]), Err(Malformed::Name)));
        assert!(matches!(read(&[head(1).as_bytes(), &[0xff]]), Err(Malformed::NoText { .. })));
    }
}
