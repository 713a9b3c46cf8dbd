//! A fleet that a web server serves over TLS: whom a host believes to be that server, and how long it waits for one that
//! means harm.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

#[expect(dead_code, reason = "each file of tests uses some of it")]
mod common;

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bulkhead_fleet::Https;
use bulkhead_http::Tls;
use common::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// Who vouches for servers, or for hosts.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    fn trusted(&self) -> Tls {
        Tls { ca: Some(self.directory.path().join("ca.pem")), identity: None }
    }

    /// The certificate and key of a host that it vouches for.
    fn host(&self) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["oms-1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let [chain, secret] = ["host.pem", "host.key"].map(|name| self.directory.path().join(name));
        std::fs::write(&chain, certificate.pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        (chain, secret)
    }

    /// A server of that name. It demands a certificate by `hosts`, if there is one.
    fn server(&self, name: &str, is_over: bool, hosts: Option<&Self>) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if is_over {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match hosts {
            Some(hosts) => {
                let mut roots = RootCertStore::empty();
                roots.add(hosts.issuer.der().clone()).unwrap();
                let of = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(of.build().unwrap())
            }
            None => config.with_no_client_auth(),
        };
        let key = key.serialize_der().try_into().unwrap();
        Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }
}

/// What a web server answers.
#[derive(Clone)]
enum Answers {
    /// The files below a directory.
    Files(PathBuf),
    /// That they are elsewhere.
    Elsewhere(String),
    /// A byte a second.
    Drip,
    /// Bytes without end.
    Flood,
    /// Nothing, not even TLS.
    Nothing,
}

/// A web server, and how many requests it has read.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Server {
    /// None: without TLS.
    fn start(tls: Option<Arc<ServerConfig>>, answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (tls, answers, counted) = (tls.clone(), answers.clone(), Arc::clone(&counted));
                // Whoever is refused hangs up.
                std::thread::spawn(move || match (&answers, tls) {
                    (Answers::Nothing, _) => std::thread::sleep(Duration::from_secs(60)),
                    (_, Some(tls)) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        let _ = serve(StreamOwned::new(connection, tcp), &answers, &counted);
                    }
                    (_, None) => _ = serve(tcp, &answers, &counted),
                });
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/files", self.address.port())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn serve(stream: impl Read + Write, answers: &Answers, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut line) = (String::new(), String::new());
        if stream.read_line(&mut first)? == 0 {
            return Ok(());
        }
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        asked.fetch_add(1, Ordering::SeqCst);
        let stream = stream.get_mut();
        match answers {
            Answers::Files(directory) => {
                let path = first.split(' ').nth(1).and_then(|path| path.strip_prefix("/files/")).unwrap();
                match std::fs::read(directory.join(path)) {
                    Ok(bytes) => {
                        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len())?;
                        stream.write_all(&bytes)?;
                    }
                    Err(_) => write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?,
                }
            }
            Answers::Elsewhere(url) => {
                let path = first.split(' ').nth(1).and_then(|path| path.strip_prefix("/files")).unwrap();
                write!(stream, "HTTP/1.1 302 Found\r\nlocation: {url}{path}\r\ncontent-length: 0\r\n\r\n")?;
            }
            Answers::Drip => {
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")?;
                loop {
                    stream.write_all(b"{")?;
                    stream.flush()?;
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            Answers::Flood => {
                write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
                loop {
                    stream.write_all(&[b'{'; 65_536])?;
                }
            }
            Answers::Nothing => {}
        }
        stream.flush()?;
    }
}

/// What a host that has never seen the fleet makes of an origin.
fn look(fleet: &Fleet, url: &str, tls: &Tls) -> Result<String, String> {
    let origin = Https::new(url, tls).map_err(|error| error.to_string())?;
    Host::new(fleet).look(origin).map(|(_, bundle)| bundle).map_err(|error| error.to_string())
}

fn published() -> Fleet {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    fleet
}

fn files(fleet: &Fleet) -> Answers {
    Answers::Files(fleet.path().to_owned())
}

#[test]
fn a_fleet_comes_over_tls_and_goes_on_there() {
    let (fleet, ca) = (published(), Authority::new("ca"));
    let server = Server::start(Some(ca.server("localhost", false, None)), files(&fleet));
    let host = Host::new(&fleet);
    let origin = || Https::new(&server.url(), &ca.trusted()).unwrap();
    assert_eq!(host.look(origin()).unwrap().1, "one");
    fleet.put("two", &[ALICE, BOB]);
    assert_eq!(host.look(origin()).unwrap().1, "two");
    // What is served without TLS is verified all the same; whoever sees the way knows who asks.
    let plain = Server::start(None, files(&fleet));
    let url = format!("http://localhost:{}/files", plain.address.port());
    assert_eq!(look(&fleet, &url, &Tls::default()).unwrap(), "two");
}

#[test]
fn nobody_else_is_believed_to_be_the_server() {
    let (fleet, ca, other) = (published(), Authority::new("ca"), Authority::new("other"));
    let refused = |config, words: &str| {
        let server = Server::start(Some(config), files(&fleet));
        let why = look(&fleet, &server.url(), &ca.trusted()).unwrap_err();
        assert!(why.contains(words), "{why}");
        assert_eq!(server.asked(), 0, "it has not even learnt what was asked: {why}");
    };
    refused(other.server("localhost", false, None), "UnknownIssuer");
    refused(ca.server("localhost", true, None), "expired");
    refused(ca.server("elsewhere.example.com", false, None), "not valid for name");
    // None of the system's authorities vouches for it.
    let server = Server::start(Some(ca.server("localhost", false, None)), files(&fleet));
    assert!(look(&fleet, &server.url(), &Tls::default()).is_err());
    // One that speaks no TLS is none, and is not asked without it.
    let plain = Server::start(None, files(&fleet));
    look(&fleet, &plain.url(), &ca.trusted()).unwrap_err();
    assert_eq!(plain.asked(), 0);
}

#[test]
fn a_host_shows_its_certificate_where_it_is_asked_for() {
    let (fleet, ca, hosts, other) =
        (published(), Authority::new("ca"), Authority::new("hosts"), Authority::new("x"));
    let server = Server::start(Some(ca.server("localhost", false, Some(&hosts))), files(&fleet));
    let tls = |identity| Tls { identity, ..ca.trusted() };
    assert_eq!(look(&fleet, &server.url(), &tls(Some(hosts.host()))).unwrap(), "one");
    let before = server.asked();
    look(&fleet, &server.url(), &tls(None)).unwrap_err();
    look(&fleet, &server.url(), &tls(Some(other.host()))).unwrap_err();
    assert_eq!(server.asked(), before, "who is not vouched for gets nothing");
    // A key of another certificate, and files that are none, are said at once.
    let (chain, _) = hosts.host();
    let missing = (chain.clone(), Path::new("/none.key").to_owned());
    assert!(look(&fleet, &server.url(), &tls(Some(missing))).unwrap_err().contains("/none.key"));
    look(&fleet, &server.url(), &tls(Some((chain, other.host().1)))).unwrap_err();
    assert_eq!(server.asked(), before);
}

#[test]
fn who_sends_a_host_elsewhere_is_not_followed() {
    let (fleet, ca) = (published(), Authority::new("ca"));
    let honest = Server::start(Some(ca.server("localhost", false, None)), files(&fleet));
    let plain = Server::start(None, files(&fleet));
    for to in [honest.url(), format!("http://localhost:{}/files", plain.address.port())] {
        let server = Server::start(Some(ca.server("localhost", false, None)), Answers::Elsewhere(to));
        let why = look(&fleet, &server.url(), &ca.trusted()).unwrap_err();
        assert!(why.contains("302"), "{why}");
        assert!(server.asked() > 0);
    }
    assert_eq!((honest.asked(), plain.asked()), (0, 0));
}

#[test]
fn a_slow_or_endless_server_is_waited_for_a_bounded_time() {
    let (fleet, ca) = (published(), Authority::new("ca"));
    let looks = [Answers::Drip, Answers::Nothing, Answers::Flood].map(|answers| {
        let server = Server::start(Some(ca.server("localhost", false, None)), answers);
        let (url, tls, first) = (server.url(), ca.trusted(), fleet.first_root());
        std::thread::spawn(move || {
            let host = Host { state: tempfile::tempdir().unwrap(), first };
            let begun = Instant::now();
            // The runtime ends without what still waits.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let origin: Arc<dyn bulkhead_fleet::Origin> = Arc::new(Https::new(&url, &tls).unwrap());
            let why = runtime.block_on(async { host.client().check(&origin).await.map(drop) }).unwrap_err();
            runtime.shutdown_background();
            (begun.elapsed(), why.to_string())
        })
    });
    let [drip, nothing, flood] = looks.map(|look| look.join().unwrap());
    for (took, why) in [&drip, &nothing] {
        assert!(*took < Duration::from_secs(15) && why.contains("no answer within"), "{took:?}: {why}");
    }
    assert!(flood.0 < Duration::from_secs(9) && flood.1.contains("limit"), "{flood:?}");
}
