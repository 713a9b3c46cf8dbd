//! Syslog over TLS: a server of rustls, with certificates made for the test.

use std::fs;
use std::io::{BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_http::Tls;
use bulkhead_sinks::Kind;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::memory::Memory;
use crate::{LIMIT, assert_at_least_once, number, settings, start, wait_for};

/// An authority, and a server of it that asks clients for certificates of it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Authority {
    pub fn new(directory: &Path, name: &str) -> Self {
        let directory = directory.join(name);
        fs::create_dir(&directory).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    /// Files of this authority, and of a client that it vouches for.
    pub fn client(&self) -> Tls {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["agent".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let [chain, secret] = ["client.pem", "client.key"].map(|name| self.directory.join(name));
        fs::write(&chain, certificate.pem()).unwrap();
        fs::write(&secret, key.serialize_pem()).unwrap();
        Tls { ca: Some(self.directory.join("ca.pem")), identity: Some((chain, secret)) }
    }

    /// Files of the authority, and of a server that it vouches for.
    pub fn server_files(&self) -> [PathBuf; 3] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = ["ca.pem", "server.pem", "server.key"].map(|name| self.directory.join(name));
        fs::write(&files[1], certificate.pem()).unwrap();
        fs::write(&files[2], key.serialize_pem()).unwrap();
        files
    }

    pub fn server(&self) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        Arc::new(config)
    }
}

/// Speaks TLS as a server.
pub fn accept(
    listener: &TcpListener,
    config: &Arc<ServerConfig>,
) -> StreamOwned<ServerConnection, TcpStream> {
    let (tcp, _) = listener.accept().unwrap();
    StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), tcp)
}

/// Numbers of the records in so many frames; fewer if the stream ends.
pub fn frames(stream: &mut impl Read, count: usize) -> Vec<u64> {
    let mut stream = BufReader::new(stream);
    let mut received = Vec::new();
    while received.len() < count {
        let mut digits = String::new();
        loop {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap() == 0 {
                return received;
            }
            if byte == *b" " {
                break;
            }
            digits.push(char::from(byte[0]));
        }
        let mut message = vec![0; digits.parse().unwrap()];
        stream.read_exact(&mut message).unwrap();
        let start = message.iter().position(|byte| *byte == b'{').unwrap();
        received.push(number(&message[start..]));
    }
    received
}

#[test]
fn a_server_that_dies_and_comes_back_gets_all() {
    let state = tempfile::tempdir().unwrap();
    let authority = Authority::new(state.path(), "ca");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kind = Kind::SyslogTls { host: "localhost".to_owned(), port, tls: authority.client() };
    let source = Arc::new(Memory::of("h", 3000));
    let config = authority.server();
    let sinks = start(settings(kind.clone()), &source, state.path());
    let mut received = frames(&mut accept(&listener, &config), 100);
    assert_eq!(received.len(), 100);
    // Nobody answers for a while.
    drop(listener);
    wait_for(&sinks, "a problem", |progress| progress.problem.is_some());
    source.grow(500);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let reading = std::thread::spawn(move || frames(&mut accept(&listener, &config), usize::MAX));
    wait_for(&sinks, "sent again", |progress| progress.problem.is_none());
    sinks.end(LIMIT);
    received.extend(reading.join().unwrap());
    assert_at_least_once(&received, 3500);
    assert_eq!(sinks.progress()[0].position, 3500, "the server has read all of it");
}

#[test]
fn what_a_connection_has_carried_for_long_enough_is_the_receivers() {
    let state = tempfile::tempdir().unwrap();
    let authority = Authority::new(state.path(), "ca");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kind = Kind::SyslogTls { host: "127.0.0.1".to_owned(), port, tls: authority.client() };
    let source = Arc::new(Memory::of("h", 100));
    let sinks = start(settings(kind), &source, state.path());
    let mut connection = accept(&listener, &authority.server());
    assert_eq!(frames(&mut connection, 100).len(), 100);
    assert_eq!(sinks.progress()[0].position, 0, "it may still fail");
    let sent = std::time::Instant::now();
    wait_for(&sinks, "confirmed", |progress| progress.position == 100);
    assert!(sent.elapsed().as_secs() >= 10, "confirmed after {:?}", sent.elapsed());
    drop(connection);
    sinks.end(LIMIT);
}

#[test]
fn a_server_of_another_authority_gets_nothing() {
    let state = tempfile::tempdir().unwrap();
    let [trusted, other] = ["trusted", "other"].map(|name| Authority::new(state.path(), name));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let source = Arc::new(Memory::of("h", 10));
    let kind = Kind::SyslogTls { host: "localhost".to_owned(), port, tls: trusted.client() };
    let sinks = start(settings(kind), &source, state.path());
    let mut read = Vec::new();
    let refused = accept(&listener, &other.server()).read_to_end(&mut read).unwrap_err().to_string();
    assert!(read.is_empty() && refused.contains("alert"), "{refused}");
    let progress = wait_for(&sinks, "a problem", |progress| progress.problem.is_some());
    assert!(progress.problem.as_ref().unwrap().contains("invalid peer certificate"), "{progress:?}");
    assert_eq!((progress.position, progress.behind), (0, 10));
    sinks.end(LIMIT);
}
