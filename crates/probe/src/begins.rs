//! What the first bytes of a server look like.

/// Bytes that say what it is: a TLS record's head (RFC 8446, section 5.1), and what a handshake message is (section 4).
pub(crate) const HEAD: usize = 6;

const ALERT: u8 = 0x15;
const HANDSHAKE: u8 = 0x16;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

/// The longest record, with what encryption may add (RFC 5246, section 6.2.3).
const LONGEST_RECORD: u16 = (1 << 14) + 2048;

/// What bytes may still be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// The head of a record that a server begins with: a handshake, or an alert.
    Tls,
    /// No such head, whatever follows.
    Plaintext,
    /// They are too few.
    Undecided,
}

/// Tells a record from what is none.
pub(crate) fn begins(bytes: &[u8]) -> Begins {
    let could_be = |at: usize, is: fn(u8) -> bool| bytes.get(at).is_none_or(|byte| is(*byte));
    let is_record = could_be(0, |kind| matches!(kind, ALERT | HANDSHAKE))
        && could_be(1, |major| major == 3)
        && could_be(2, |minor| minor <= 4);
    match bytes.get(3..HEAD) {
        _ if !is_record => Begins::Plaintext,
        Some(&[high, low, _]) if !(2..=LONGEST_RECORD).contains(&u16::from_be_bytes([high, low])) => {
            Begins::Plaintext
        }
        // Whoever says hello as a client does repeats what it was told.
        Some(&[.., message]) if bytes[0] == HANDSHAKE && message != SERVER_HELLO => Begins::Plaintext,
        Some(_) => Begins::Tls,
        None => Begins::Undecided,
    }
}

/// Which protocol plaintext looks like, by how it begins.
pub(crate) fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    let starts =
        |words: &[u8]| bytes.len() >= words.len() && bytes[..words.len()].eq_ignore_ascii_case(words);
    let is_mysql = bytes.get(3..5).is_some_and(|found| matches!(found, [0, 9 | 10])) && bytes[2] == 0;
    // A frame of SETTINGS on stream 0 (RFC 9113, section 3.4).
    let is_http2 = bytes.len() >= 9 && bytes[3] == 4 && bytes[5..9] == [0; 4];
    let is_echo = bytes.first() == Some(&HANDSHAKE) && bytes.get(HEAD - 1) == Some(&CLIENT_HELLO);
    let first = [
        ("echo", is_echo),
        ("ssh", starts(b"SSH-")),
        ("http", starts(b"HTTP/") || starts(b"<!DOCTYPE") || starts(b"<html")),
        ("ftp", starts(b"220") && contains(bytes, b"ftp")),
        ("smtp", starts(b"220 ") || starts(b"220-") || starts(b"554 ")),
        ("imap", starts(b"* OK") || starts(b"* PREAUTH") || starts(b"* BYE")),
        ("pop3", starts(b"+OK")),
        ("redis", starts(b"-ERR") || starts(b"-DENIED") || starts(b"-NOAUTH")),
        ("mysql", is_mysql),
        ("http2", is_http2),
        ("postgres", starts(b"E\0\0\0")),
    ];
    first.into_iter().find_map(|(name, is_so)| is_so.then_some(name))
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::{Begins, begins, looks_like};

    #[test]
    fn records_are_told_from_what_is_none_byte_by_byte() {
        let record = [0x16, 3, 3, 0, 90, 2];
        for length in 0..record.len() {
            assert_eq!(begins(&record[..length]), Begins::Undecided);
        }
        assert_eq!(begins(&record), Begins::Tls);
        assert_eq!(begins(&[0x15, 3, 1, 0, 2, 2, 40]), Begins::Tls);
        let others: [&[u8]; 9] = [
            &[0x16, 3, 1, 0, 90, 1],
            b"SSH-2.0",
            b"H",
            &[0x17, 3, 3, 0, 9],
            &[0x14, 3, 3, 0, 1],
            &[0x16, 2],
            &[0x16, 3, 5],
            &[0x16, 3, 3, 0, 1, 2],
            &[0x16, 3, 3, 0xff, 0xff, 2],
        ];
        for other in others {
            assert_eq!(begins(other), Begins::Plaintext, "{other:?}");
        }
    }

    #[test]
    fn plaintext_is_named_by_how_it_begins() {
        let of: [(&[u8], Option<&str>); 15] = [
            (&[0x16, 3, 1, 0, 90, 1, 0], Some("echo")),
            (b"SSH-2.0-OpenSSH_9.2", Some("ssh")),
            (b"HTTP/1.1 400 Bad Request", Some("http")),
            (b"<!doctype HTML", Some("http")),
            (b"220 mail ESMTP", Some("smtp")),
            (b"220 (vsFTPd 3)", Some("ftp")),
            (b"* OK ready", Some("imap")),
            (b"+OK", Some("pop3")),
            (b"-ERR unknown", Some("redis")),
            (b"J\0\0\0\x0a8.0", Some("mysql")),
            (b"\0\0\x12\x04\0\0\0\0\0\0", Some("http2")),
            (b"E\0\0\0\x8a", Some("postgres")),
            (b"\0\0\0", None),
            (b"", None),
            (b"secret", None),
        ];
        for (bytes, wanted) in of {
            assert_eq!(looks_like(bytes), wanted, "{bytes:?}");
        }
    }
}
