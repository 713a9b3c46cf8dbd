//! A client that sends what it is told to: one that means harm keeps to no rule of ours.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;

use bulkhead_channel::Credentials;

pub struct Raw(BufReader<TcpStream>);

impl Raw {
    /// Logs in by a file of credentials at a server without TLS.
    pub fn connect(url: &str, credentials: &Path) -> Self {
        let address = url.strip_prefix("nats://").unwrap();
        let mut raw = Self(BufReader::new(TcpStream::connect(address).unwrap()));
        let info = raw.line();
        let info: serde_json::Value = serde_json::from_str(info.strip_prefix("INFO ").unwrap()).unwrap();
        let file = Credentials::read(credentials).unwrap();
        let signature = file.sign(info["nonce"].as_str().unwrap().as_bytes()).unwrap();
        let connect = serde_json::json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "jwt": file.jwt(),
            "sig": signature,
        });
        raw.send(format!("CONNECT {connect}\r\n").as_bytes());
        raw.settle();
        raw
    }

    /// Comes to a server that asks nobody who they are.
    pub fn open(url: &str) -> Self {
        let address = url.strip_prefix("nats://").unwrap();
        let mut raw = Self(BufReader::new(TcpStream::connect(address).unwrap()));
        raw.line();
        raw.send(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n");
        raw.settle();
        raw
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the server hangs up");
        line
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    pub fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        self.send(format!("PUB {subject} {reply} {}\r\n", payload.len()).as_bytes());
        self.send(payload);
        self.send(b"\r\n");
    }

    /// Publishes with headers.
    pub fn publish_with(&mut self, headers: &str, subject: &str, reply: &str, payload: &[u8]) {
        let head = format!("NATS/1.0\r\n{headers}\r\n\r\n");
        let (head_length, length) = (head.len(), head.len() + payload.len());
        self.send(format!("HPUB {subject} {reply} {head_length} {length}\r\n{head}").as_bytes());
        self.send(payload);
        self.send(b"\r\n");
    }

    /// Waits until the server has seen all of it, and refused none.
    pub fn settle(&mut self) {
        self.send(b"PING\r\n");
        loop {
            let line = self.line();
            assert!(!line.starts_with("-ERR"), "{line}");
            if line.starts_with("PONG") {
                return;
            }
        }
    }

    /// Waits until the server has seen all of it, whatever it refused.
    pub fn settle_refused(&mut self) {
        self.send(b"PING\r\n");
        while !self.line().starts_with("PONG") {}
    }
}
