//! How a connection begins: the server's greeting, TLS, and who this is.

use bulkhead_http::Tls;
use serde::{Deserialize, Serialize};

use super::{Address, Frame, Stream};
use crate::error::{Error, OLDEST, Result};
use crate::identity::Credentials;

/// What a server says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Info {
    pub version: String,
    pub nonce: String,
    pub tls_required: bool,
    pub max_payload: u64,
    pub headers: bool,
}

impl Info {
    /// Major and minor version.
    fn release(&self) -> Option<(u64, u64)> {
        let mut numbers = self.version.split('.').map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    }
}

/// What a client says of itself (CONNECT).
#[derive(Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    lang: &'static str,
    version: &'static str,
    name: &'a str,
    protocol: u8,
    echo: bool,
    headers: bool,
    no_responders: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

/// Connects and says who this is; returns once the server has accepted it.
///
/// # Errors
/// The server is not there, not who its certificate should say, too old, or does not accept the credentials.
pub(crate) async fn greet(
    address: &Address,
    tls: &Tls,
    name: &str,
    credentials: Option<&Credentials>,
) -> Result<(Stream, Info)> {
    let mut stream = Stream::open(address).await?;
    let of_server = |error: Error| match error {
        Error::Disconnected(what) | Error::Protocol(what) => address.failed(what),
        other => other,
    };
    let Frame::Info(mut info) = stream.next().await.map_err(of_server)? else {
        return Err(address.failed("does not begin as NATS does: is it another service's port?"));
    };
    if info.release().is_none_or(|release| release < OLDEST) {
        // What it says may be anything.
        let version = info.version.chars().filter(char::is_ascii_graphic).take(32).collect();
        return Err(Error::OldServer { server: address.to_string(), version });
    }
    if address.is_tls() {
        stream = stream.secure(address, tls).await?;
    } else if info.tls_required {
        return Err(address.failed("demands TLS: name it as tls://"));
    }
    if credentials.is_some() && info.nonce.is_empty() {
        return Err(address
            .failed("asks for no credentials, and a fleet's broker does: see `bulkhead fleet account`"));
    }
    let connect = Connect {
        verbose: false,
        pedantic: false,
        tls_required: address.is_tls(),
        lang: "bulkhead",
        version: env!("CARGO_PKG_VERSION"),
        name,
        protocol: 1,
        echo: false,
        headers: true,
        no_responders: true,
        jwt: credentials.map(Credentials::jwt),
        sig: credentials.map(|credentials| credentials.sign(info.nonce.as_bytes())).transpose()?,
    };
    let connect = serde_json::to_string(&connect).map_err(|error| address.failed(error))?;
    stream.send(format!("CONNECT {connect}\r\nPING\r\n").as_bytes()).await.map_err(of_server)?;
    loop {
        match stream.next().await.map_err(of_server)? {
            Frame::Pong => return Ok((stream, *info)),
            Frame::Error(what) if what.to_ascii_lowercase().contains("auth") => {
                return Err(Error::Unauthorized { server: address.to_string(), what });
            }
            Frame::Error(what) => return Err(address.failed(what)),
            Frame::Info(again) => info = again,
            Frame::Ping => stream.send(b"PONG\r\n").await.map_err(of_server)?,
            Frame::Ok | Frame::Message(..) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Info, OLDEST};

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, is_taken) in [
            ("2.14.0", true),
            ("2.15.1-beta.2", true),
            ("3.0.0", true),
            ("2.9.10", false),
            ("2.13.9", false),
            ("", false),
        ] {
            let info = Info { version: version.to_owned(), ..Info::default() };
            assert_eq!(info.release().is_some_and(|release| release >= OLDEST), is_taken, "{version}");
        }
    }
}
