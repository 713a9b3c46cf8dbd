//! What is said before TLS begins, where a port does not begin with it.

use bulkhead_api::tls::StartTls;

use crate::connection::{Broken, Connection};

/// The longest line of a text protocol, and how many there may be in an answer.
const LINE: usize = 2048;
const LINES: usize = 64;

/// PostgreSQL's SSLRequest: a length and a code (PostgreSQL, "Message Formats").
const POSTGRES: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// LDAP's extended request with the identifier of StartTLS, message 1 (RFC 4511, section 4.14.1).
const LDAP: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prelude {
    /// TLS is to begin.
    Agreed,
    /// The server does without TLS.
    Declined,
    /// What answered does not speak the protocol.
    Other,
}

/// Asks for TLS.
pub(crate) fn ask(connection: &mut Connection, by: StartTls) -> Result<Prelude, Broken> {
    match by {
        StartTls::Postgres => postgres(connection),
        StartTls::Mysql => mysql(connection),
        StartTls::Smtp => smtp(connection),
        StartTls::Imap => imap(connection),
        StartTls::Ldap => ldap(connection),
    }
}

fn postgres(connection: &mut Connection) -> Result<Prelude, Broken> {
    connection.write(&POSTGRES)?;
    let mut answer = [0];
    connection.read_exactly(&mut answer)?;
    Ok(match answer {
        [b'S'] => Prelude::Agreed,
        // Servers before 7.0 and poolers answer with an error.
        [b'N' | b'E'] => Prelude::Declined,
        _ => Prelude::Other,
    })
}

/// The greeting says whether the server can (`CLIENT_SSL` of its capabilities); then the client's first packet ends after its
/// own capabilities, and TLS begins (MySQL, "Connection Phase").
fn mysql(connection: &mut Connection) -> Result<Prelude, Broken> {
    const CLIENT_SSL: u16 = 0x0800;
    const CLIENT_PROTOCOL_41: u32 = 0x0200;
    const CLIENT_SECURE_CONNECTION: u32 = 0x8000;
    let mut head = [0; 4];
    connection.read_exactly(&mut head)?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8;
    if head[2] != 0 || head[3] != 0 || !(20..=1024).contains(&length) {
        return Ok(Prelude::Other);
    }
    let mut greeting = vec![0; length];
    connection.read_exactly(&mut greeting)?;
    if greeting[0] == 0xff {
        return Ok(Prelude::Declined);
    }
    // Version text, its end, connection id, 8 bytes of salt, a zero, capabilities.
    let Some(end) = greeting.iter().position(|byte| *byte == 0).filter(|_| greeting[0] == 10) else {
        return Ok(Prelude::Other);
    };
    let Some(&[low, high]) = greeting.get(end + 14..end + 16) else { return Ok(Prelude::Other) };
    if u16::from_le_bytes([low, high]) & CLIENT_SSL == 0 {
        return Ok(Prelude::Declined);
    }
    let mut request = vec![32, 0, 0, 1];
    let capabilities = u32::from(CLIENT_SSL) | CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION;
    request.extend_from_slice(&capabilities.to_le_bytes());
    request.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    // utf8mb4.
    request.push(45);
    request.resize(4 + 32, 0);
    connection.write(&request)?;
    Ok(Prelude::Agreed)
}

fn smtp(connection: &mut Connection) -> Result<Prelude, Broken> {
    if !reply(connection)?.starts_with("220") {
        return Ok(Prelude::Other);
    }
    connection.write(b"EHLO localhost\r\n")?;
    if !reply(connection)?.starts_with("250") {
        return Ok(Prelude::Other);
    }
    connection.write(b"STARTTLS\r\n")?;
    Ok(if reply(connection)?.starts_with("220") { Prelude::Agreed } else { Prelude::Declined })
}

/// The last line of a reply, whose other lines have a hyphen behind the code (RFC 5321, section 4.2.1).
fn reply(connection: &mut Connection) -> Result<String, Broken> {
    for _ in 0..LINES {
        let line = line(connection)?;
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line);
        }
    }
    Ok(String::new())
}

fn imap(connection: &mut Connection) -> Result<Prelude, Broken> {
    if !line(connection)?.starts_with("* ") {
        return Ok(Prelude::Other);
    }
    connection.write(b"b1 STARTTLS\r\n")?;
    for _ in 0..LINES {
        let line = line(connection)?;
        if let Some(answer) = line.strip_prefix("b1 ") {
            return Ok(if answer.starts_with("OK") { Prelude::Agreed } else { Prelude::Declined });
        }
        if !line.starts_with("* ") {
            break;
        }
    }
    Ok(Prelude::Other)
}

/// A line, byte by byte: what is behind it may be TLS.
fn line(connection: &mut Connection) -> Result<String, Broken> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LINE {
        connection.read_exactly(&mut byte)?;
        if byte == [b'\n'] {
            break;
        }
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// An extended response of message 1 whose result code is 0: `30 L 02 01 01 78 L 0a 01 00 …`, with lengths of one byte, or
/// of more.
fn ldap(connection: &mut Connection) -> Result<Prelude, Broken> {
    connection.write(LDAP)?;
    let mut head = [0; 2];
    connection.read_exactly(&mut head)?;
    if head[0] != 0x30 {
        return Ok(Prelude::Other);
    }
    let Some(length) = length(connection, head[1])? else { return Ok(Prelude::Other) };
    if !(10..=LINE).contains(&length) {
        return Ok(Prelude::Other);
    }
    let mut message = vec![0; length];
    connection.read_exactly(&mut message)?;
    let Some(rest) = message.strip_prefix(&[0x02, 0x01, 0x01, 0x78]) else { return Ok(Prelude::Other) };
    // Of its own length only how long it is matters.
    let skipped = match rest.first() {
        Some(short) if *short < 0x80 => 1,
        Some(long) => 1 + usize::from(long & 0x7f),
        None => return Ok(Prelude::Other),
    };
    Ok(match rest.get(skipped..) {
        Some([0x0a, 0x01, 0, ..]) => Prelude::Agreed,
        Some([0x0a, 0x01, _, ..]) => Prelude::Declined,
        _ => Prelude::Other,
    })
}

/// A length of BER (X.690, section 8.1.3) of up to two bytes.
fn length(connection: &mut Connection, first: u8) -> Result<Option<usize>, Broken> {
    let mut more = [0; 2];
    Ok(match first {
        0..=0x7f => Some(first.into()),
        0x81 => {
            connection.read_exactly(&mut more[1..])?;
            Some(more[1].into())
        }
        0x82 => {
            connection.read_exactly(&mut more)?;
            Some(u16::from_be_bytes(more).into())
        }
        // OpenLDAP writes four bytes.
        0x84 => {
            let mut four = [0; 4];
            connection.read_exactly(&mut four)?;
            usize::try_from(u32::from_be_bytes(four)).ok()
        }
        _ => None,
    })
}
