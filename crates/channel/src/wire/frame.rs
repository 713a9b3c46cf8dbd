//! Frames that a server sends (<https://docs.nats.io/reference/reference-protocols/nats-protocol>).
//!
//! ```text
//! INFO {json}␍␊   PING␍␊   PONG␍␊   +OK␍␊   -ERR 'words'␍␊
//! MSG subject sid [reply] length␍␊payload␍␊
//! HMSG subject sid [reply] header-length length␍␊NATS/1.0 [status words]␍␊Name: value␍␊…␍␊payload␍␊
//! ```

use bytes::{Bytes, BytesMut};

use super::Info;
use crate::error::{Error, Result};

/// No line is longer, in bytes. A server of a large cluster lists its addresses in INFO.
const LONGEST_LINE: usize = 64 << 10;

/// No message is longer, headers and payload together, in bytes: servers' own default (`max_payload`), and room for
/// the headers that JetStream adds.
pub(crate) const LONGEST_MESSAGE: usize = (1 << 20) + (64 << 10);

/// No message has more headers.
const MOST_HEADERS: usize = 32;

/// A message of the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it was published to.
    pub subject: String,
    /// Where an answer is waited for.
    pub reply: Option<String>,
    /// The status of an answer that has no payload, such as 404 or 503.
    pub status: Option<u16>,
    /// The words beside the status.
    pub description: String,
    headers: Vec<(String, String)>,
    /// What it says.
    pub payload: Bytes,
}

impl Message {
    /// The first header of that name; names are compared without case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

/// What a server sends.
#[derive(Debug)]
pub(crate) enum Frame {
    Info(Box<Info>),
    Ping,
    Pong,
    Ok,
    Error(String),
    /// A message for the subscription of that number.
    Message(u64, Message),
}

/// What has arrived and is no whole frame yet. It never holds more than one line and one message.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pub(crate) buffer: BytesMut,
}

fn broken(what: impl Into<String>) -> Error {
    Error::Protocol(what.into())
}

impl Frames {
    /// Whether a frame has begun and is not complete.
    pub(crate) fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next whole frame; none: more has to arrive.
    ///
    /// # Errors
    /// What has arrived is no frame, or one longer than is taken. Nothing after it can be read.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        let window = &self.buffer[..self.buffer.len().min(LONGEST_LINE)];
        let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
            if self.buffer.len() >= LONGEST_LINE {
                return Err(broken(format!("a line of more than {LONGEST_LINE} bytes")));
            }
            return Ok(None);
        };
        let line = std::str::from_utf8(&self.buffer[..end]).map_err(|_| broken("a line is not UTF-8"))?;
        let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let frame = match verb.to_ascii_uppercase().as_str() {
            "MSG" => return self.message(end, false),
            "HMSG" => return self.message(end, true),
            "INFO" => {
                let info = serde_json::from_str(rest).map_err(|error| broken(format!("INFO: {error}")))?;
                Frame::Info(Box::new(info))
            }
            "PING" => Frame::Ping,
            "PONG" => Frame::Pong,
            "+OK" => Frame::Ok,
            "-ERR" => Frame::Error(rest.trim().trim_matches('\'').to_owned()),
            _ => return Err(broken("an unknown line")),
        };
        let _ = self.buffer.split_to(end + 2);
        Ok(Some(frame))
    }

    /// A message whose first line ends at `end`.
    fn message(&mut self, end: usize, has_headers: bool) -> Result<Option<Frame>> {
        let line = std::str::from_utf8(&self.buffer[..end]).map_err(|_| broken("a line is not UTF-8"))?;
        let words: Vec<&str> = line.split_ascii_whitespace().skip(1).collect();
        let lengths = if has_headers { 2 } else { 1 };
        let (names, numbers) = words
            .split_at_checked(words.len().wrapping_sub(lengths))
            .filter(|(names, _)| matches!(names.len(), 2 | 3))
            .ok_or_else(|| broken("a message's line has too few or too many words"))?;
        let number =
            |word: &str| word.parse::<usize>().map_err(|_| broken("a message's length is no number"));
        let total = number(numbers[lengths - 1])?;
        let head = if has_headers { number(numbers[0])? } else { 0 };
        if total > LONGEST_MESSAGE || head > total {
            return Err(broken(format!(
                "a message of {total} bytes, and {LONGEST_MESSAGE} are taken at most"
            )));
        }
        let needed = end + 2 + total + 2;
        if self.buffer.len() < needed {
            self.buffer.reserve(needed - self.buffer.len());
            return Ok(None);
        }
        let sid = names[1].parse().map_err(|_| broken("a subscription's number is no number"))?;
        let mut message = Message {
            subject: names[0].to_owned(),
            reply: names.get(2).map(|&reply| reply.to_owned()),
            ..Message::default()
        };
        let mut frame = self.buffer.split_to(needed);
        if !frame.ends_with(b"\r\n") {
            return Err(broken("a message does not end where it says"));
        }
        // A copy of its own: a slice would hold the whole buffer.
        message.payload = Bytes::copy_from_slice(&frame[end + 2 + head..needed - 2]);
        if has_headers {
            headers(&frame.split_off(end + 2)[..head], &mut message)?;
        }
        Ok(Some(Frame::Message(sid, message)))
    }
}

/// Reads a message's headers.
fn headers(bytes: &[u8], message: &mut Message) -> Result<()> {
    let text = std::str::from_utf8(bytes).map_err(|_| broken("headers are not UTF-8"))?;
    let mut lines = text.split("\r\n");
    let first = lines.next().and_then(|line| line.strip_prefix("NATS/1.0"));
    let first = first.ok_or_else(|| broken("headers of another version"))?.trim();
    if !first.is_empty() {
        let (status, words) = first.split_once(' ').unwrap_or((first, ""));
        message.status = Some(status.parse().map_err(|_| broken("a status is no number"))?);
        words.trim().clone_into(&mut message.description);
    }
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or_else(|| broken("a header without a colon"))?;
        if message.headers.len() == MOST_HEADERS {
            return Err(broken(format!("more than {MOST_HEADERS} headers")));
        }
        message.headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Frame, Frames, LONGEST_LINE, LONGEST_MESSAGE, Message};

    fn all(bytes: &[u8]) -> (Vec<Frame>, Option<String>) {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        // Byte by byte: no frame depends on how it is cut.
        for byte in bytes {
            frames.buffer.extend_from_slice(&[*byte]);
            match frames.next() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => {}
                Err(error) => return (found, Some(error.to_string())),
            }
        }
        (found, None)
    }

    fn message(bytes: &[u8]) -> (u64, Message) {
        match all(bytes) {
            (mut found, None) => match found.pop() {
                Some(Frame::Message(sid, message)) if found.is_empty() => (sid, message),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn frames_are_read_wherever_they_are_cut() {
        let (found, error) = all(b"INFO {\"version\":\"2.15.1\",\"nonce\":\"n\"}\r\nPING\r\nPONG\r\n+OK\r\n-ERR 'Stale Connection'\r\n");
        assert_eq!((found.len(), error), (5, None));
        assert!(matches!(&found[0], Frame::Info(info) if info.version == "2.15.1" && info.nonce == "n"));
        assert!(matches!(&found[4], Frame::Error(words) if words == "Stale Connection"));
        let (sid, plain) = message(b"MSG a.b 7 11\r\nhello\r\nyou!\r\n");
        assert_eq!(
            (sid, &*plain.subject, plain.reply, &*plain.payload),
            (7, "a.b", None, &b"hello\r\nyou!"[..])
        );
        let (_, full) = message(b"HMSG a 7 r 40 42\r\nNATS/1.0 404 Not Found\r\nNats-Seq: 9 \r\n\r\nok\r\n");
        assert_eq!(
            (full.status, &*full.description, full.reply.as_deref()),
            (Some(404), "Not Found", Some("r"))
        );
        assert_eq!((full.header("nats-seq"), &*full.payload), (Some("9"), &b"ok"[..]));
    }

    #[test]
    fn what_a_server_may_not_send_is_refused() {
        for (bytes, why) in [
            (&b"MSG a 1 18446744073709551615\r\n"[..], "a message of"),
            (b"MSG a 1 99999999999999999999999\r\n", "no number"),
            (b"MSG a 1 -1\r\n", "no number"),
            (b"MSG a x 1\r\nz\r\n", "no number"),
            (b"MSG 1\r\n", "too few"),
            (b"MSG\r\n", "too few"),
            (b"MSG a 1 b c 1\r\n", "too many"),
            (b"HMSG a 1 9 4\r\n", "a message of"),
            (b"HMSG a 1 4 4\r\nHTTP\r\n", "another version"),
            (b"MSG a 1 1\r\nzzz", "does not end"),
            (b"INFO {\r\n", "INFO"),
            (b"GET / HTTP/1.1\r\n", "unknown"),
            (b"\xff\xfe\r\n", "UTF-8"),
        ] {
            let (_, error) = all(bytes);
            assert!(error.as_ref().is_some_and(|error| error.contains(why)), "{bytes:?}: {error:?}");
        }
        let long = format!("MSG a 1 {}\r\n", LONGEST_MESSAGE + 1);
        assert!(all(long.as_bytes()).1.is_some());
        let mut frames = Frames::default();
        frames.buffer.extend_from_slice(&vec![b'x'; LONGEST_LINE]);
        assert!(frames.next().is_err(), "a line without an end is not waited for");
    }
}
