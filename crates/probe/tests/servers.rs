//! Probes against servers that behave, and against such as do not.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_api::tls::{Began, ClientCertificate, Probe, StartTls};
use bulkhead_probe::{Limits, Prober, Roots, Target, of_pem};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use time::OffsetDateTime;

/// Whether a server asks its clients for certificates.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asks {
    No,
    Optionally,
    Demands,
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn config(
        &self,
        params: &CertificateParams,
        version: &'static SupportedProtocolVersion,
        asks: Asks,
    ) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.0).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
        let verifier =
            || WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone());
        let builder = match asks {
            Asks::No => builder.with_no_client_auth(),
            Asks::Optionally => {
                builder.with_client_cert_verifier(verifier().allow_unauthenticated().build().unwrap())
            }
            Asks::Demands => builder.with_client_cert_verifier(verifier().build().unwrap()),
        };
        let chain = vec![own.der().clone()];
        builder.with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()).unwrap()
    }

    fn roots(&self) -> Roots {
        Roots::of_pem("test", self.0.pem().as_bytes()).unwrap()
    }
}

/// Who a server says that it is.
fn params() -> CertificateParams {
    let mut params = CertificateParams::new(["svc.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "service");
    params.subject_alt_names.push(SanType::URI("spiffe://zerocopy.systems/oms".try_into().unwrap()));
    params.subject_alt_names.push(SanType::URI("https://x.example/".try_into().unwrap()));
    params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
    params
}

/// A server that treats each connection so, on a thread of its own.
fn serve(treat: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(treat));
    address
}

/// The same, which speaks TLS after `before` has been said.
fn serve_tls(config: ServerConfig, before: impl Fn(&mut TcpStream) + Send + 'static) -> SocketAddr {
    let config = Arc::new(config);
    serve(move |mut stream| {
        before(&mut stream);
        let mut tls = ServerConnection::new(config.clone()).unwrap();
        // Until the client goes, or is refused: its alert is written all the same.
        while tls.complete_io(&mut stream).is_ok_and(|(read, _)| read > 0 || tls.is_handshaking()) {}
        let _ = tls.complete_io(&mut stream);
    })
}

fn prober(roots: Roots) -> Prober {
    Prober::new(roots, Limits { time: Duration::from_secs(3), ..Limits::default() })
}

fn probe(roots: Roots, address: SocketAddr, starttls: Option<StartTls>) -> Probe {
    prober(roots).probe(&Target { address, starttls, name: None })
}

#[test]
fn a_chain_is_read_and_a_demand_told_from_an_offer() {
    let authority = Authority::new();
    for (version, words) in [(&TLS12, "TLS 1.2"), (&TLS13, "TLS 1.3")] {
        for (asks, wanted) in [
            (Asks::No, ClientCertificate::NotAsked),
            (Asks::Optionally, ClientCertificate::Optional),
            (Asks::Demands, ClientCertificate::Demanded),
        ] {
            let address = serve_tls(authority.config(&params(), version, asks), |_| ());
            let found = probe(authority.roots(), address, None);
            let of = format!("{words}, {asks:?}: {found:?}");
            assert_eq!((found.began, found.client_certificate), (Began::Tls, wanted), "{of}");
            assert_eq!((found.version.as_deref(), found.holds_key), (Some(words), Some(true)), "{of}");
            assert_eq!((&found.problem, found.chain.len()), (&None, 1), "{of}");
            let own = &found.chain[0];
            assert_eq!(own.spiffe, ["spiffe://zerocopy.systems/oms"]);
            assert_eq!(
                (&own.uris[..], &own.dns[..]),
                (&["https://x.example/".to_owned()][..], &["svc.example".to_owned()][..])
            );
            assert_eq!((own.addresses.len(), own.more_names, own.sha256.len()), (1, 0, 64));
            assert!(own.subject.contains("CN=service") && own.issuer.contains("CN=authority"), "{own:?}");
            let trust = found.trust.unwrap();
            assert_eq!((&*trust.roots, trust.problem), ("test", None));
        }
    }
}

#[test]
fn a_server_without_tickets_answers_a_goodbye_or_nothing_is_known() {
    let authority = Authority::new();
    for (asks, wanted) in
        [(Asks::Optionally, ClientCertificate::Unknown), (Asks::Demands, ClientCertificate::Demanded)]
    {
        let mut config = authority.config(&params(), &TLS13, asks);
        config.send_tls13_tickets = 0;
        // This one says no goodbye of its own.
        let address = serve_tls(config, |_| ());
        assert_eq!(probe(authority.roots(), address, None).client_certificate, wanted);
    }
    let mut config = authority.config(&params(), &TLS13, Asks::Optionally);
    config.send_tls13_tickets = 0;
    let config = Arc::new(config);
    let address = serve(move |mut stream| {
        let mut tls = ServerConnection::new(config.clone()).unwrap();
        while tls.complete_io(&mut stream).is_ok_and(|(read, _)| read > 0 || tls.is_handshaking()) {
            if tls.process_new_packets().is_ok_and(|state| state.peer_has_closed()) {
                tls.send_close_notify();
                let _ = tls.complete_io(&mut stream);
                return;
            }
        }
    });
    assert_eq!(probe(authority.roots(), address, None).client_certificate, ClientCertificate::Optional);
}

#[test]
fn trust_is_said_apart_from_validity() {
    let authority = Authority::new();
    let now = OffsetDateTime::now_utc();
    let days = time::Duration::days;
    for (from, until, wanted) in [(-9, -1, "expired"), (1, 9, "not valid before"), (-1, 1, "")] {
        let mut params = params();
        (params.not_before, params.not_after) = (now + days(from), now + days(until));
        let address = serve_tls(authority.config(&params, &TLS13, Asks::No), |_| ());
        let found = probe(authority.roots(), address, None);
        let invalid = found.invalid(found.time).unwrap_or_default();
        assert!(invalid.starts_with(wanted) && invalid.is_empty() == wanted.is_empty(), "{found:?}");
        assert_eq!(found.trust.unwrap().problem.is_none(), wanted.is_empty());
    }
    let address = serve_tls(authority.config(&params(), &TLS13, Asks::No), |_| ());
    let found = probe(Authority::new().roots(), address, None);
    assert!(found.invalid(found.time).is_none());
    assert!(found.trust.unwrap().problem.is_some(), "another authority's");
}

#[test]
fn preludes_are_spoken_and_a_no_is_plaintext() {
    let authority = Authority::new();
    let said = |stream: &mut TcpStream, length: usize| {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    };
    type Say = Box<dyn Fn(&mut TcpStream) + Send>;
    let mysql = |capabilities: [u8; 2]| {
        let mut greeting = vec![0x0a];
        greeting.extend_from_slice(b"8.0.36\0\x01\0\0\0saltsalt\0");
        greeting.extend_from_slice(&capabilities);
        greeting.resize(77, 0);
        [&[77, 0, 0, 0][..], &greeting].concat()
    };
    let greeting = mysql([0xff, 0xff]);
    let preludes: Vec<(StartTls, Say)> = vec![
        (
            StartTls::Postgres,
            Box::new(move |stream| {
                assert_eq!(said(stream, 8), [0, 0, 0, 8, 4, 210, 22, 47]);
                stream.write_all(b"S").unwrap();
            }),
        ),
        (
            StartTls::Mysql,
            Box::new(move |stream| {
                stream.write_all(&greeting).unwrap();
                assert_eq!(said(stream, 36)[..4], [32, 0, 0, 1]);
            }),
        ),
        (
            StartTls::Smtp,
            Box::new(move |stream| {
                stream.write_all(b"220-hello\r\n220 mail\r\n").unwrap();
                assert_eq!(said(stream, 16), b"EHLO localhost\r\n");
                stream.write_all(b"250-mail\r\n250 STARTTLS\r\n").unwrap();
                assert_eq!(said(stream, 10), b"STARTTLS\r\n");
                stream.write_all(b"220 go\r\n").unwrap();
            }),
        ),
        (
            StartTls::Imap,
            Box::new(move |stream| {
                stream.write_all(b"* OK ready\r\n").unwrap();
                assert_eq!(said(stream, 13), b"b1 STARTTLS\r\n");
                stream.write_all(b"* CAPABILITY x\r\nb1 OK begin\r\n").unwrap();
            }),
        ),
        (
            StartTls::Ldap,
            Box::new(move |stream| {
                assert_eq!(said(stream, 31)[..9], [0x30, 0x1d, 2, 1, 1, 0x77, 0x18, 0x80, 0x16]);
                stream.write_all(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00").unwrap();
            }),
        ),
    ];
    for (by, say) in preludes {
        let address = serve_tls(authority.config(&params(), &TLS13, Asks::Optionally), say);
        let found = probe(authority.roots(), address, Some(by));
        assert_eq!(found.began, Began::Tls, "{found:?}");
        assert_eq!((found.client_certificate, found.starttls), (ClientCertificate::Optional, Some(by)));
    }
    let declines: Vec<(StartTls, Vec<u8>)> = vec![
        (StartTls::Postgres, b"N".to_vec()),
        (StartTls::Mysql, mysql([0xff, 0xf7])),
        (StartTls::Smtp, b"220 mail\r\n250 mail\r\n454 no\r\n".to_vec()),
        (StartTls::Imap, b"* OK\r\nb1 NO\r\n".to_vec()),
        (
            StartTls::Ldap,
            b"\x30\x84\0\0\0\x10\x02\x01\x01\x78\x84\0\0\0\x07\x0a\x01\x02\x04\x00\x04\x00".to_vec(),
        ),
    ];
    for (by, answer) in declines {
        let address = serve(move |mut stream| {
            stream.write_all(&answer).unwrap();
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let found = probe(authority.roots(), address, Some(by));
        assert_eq!(
            (found.began, found.looks_like.as_deref()),
            (Began::Plaintext, Some(by.name())),
            "{found:?}"
        );
    }
    // Who repeats what it was told has not begun as TLS.
    let address = serve(|stream| {
        let mut from = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut from, &mut &stream);
    });
    let found = probe(authority.roots(), address, None);
    assert_eq!((found.began, found.looks_like.as_deref()), (Began::Plaintext, Some("echo")), "{found:?}");
    // Who answers something else is neither.
    for by in [StartTls::Postgres, StartTls::Mysql, StartTls::Smtp, StartTls::Imap, StartTls::Ldap] {
        let address = serve(|mut stream| {
            let _ = stream.write_all(b"XSH-2.0-x\r\nmore than that, whatever it is\r\n");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let found = probe(authority.roots(), address, Some(by));
        assert_eq!(found.began, Began::Unknown, "{found:?}");
        assert!(found.problem.unwrap().contains(by.name()));
    }
}

#[test]
fn plaintext_is_said_to_be_that_and_not_repeated() {
    let banners: [(&[u8], Option<&str>); 5] = [
        (b"SSH-2.0-OpenSSH_9.2p1 token-4711\r\n", Some("ssh")),
        (b"HTTP/1.1 400 Bad Request\r\nx: token-4711\r\n\r\n", Some("http")),
        (b"220 token-4711 ESMTP\r\n", Some("smtp")),
        (b"token-4711", None),
        (&[0x16, 3, 3, 0xff, 0xff, 2], None),
    ];
    for (banner, wanted) in banners {
        let address = serve(move |mut stream| {
            stream.write_all(banner).unwrap();
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let found = probe(Authority::new().roots(), address, None);
        assert_eq!((found.began, found.looks_like.as_deref()), (Began::Plaintext, wanted), "{found:?}");
        assert!(!format!("{found:?}").contains("4711"), "{found:?}");
    }
}

/// Treats every connection so; what is found, which must not take longer than it may.
fn hostile(treat: impl Fn(TcpStream) + Send + 'static) -> Probe {
    let address = serve(treat);
    let began = Instant::now();
    let found = prober(Authority::new().roots()).probe(&Target { address, starttls: None, name: None });
    assert!(began.elapsed() < Duration::from_millis(3500), "{:?}: {found:?}", began.elapsed());
    assert!(found.problem.is_some(), "{found:?}");
    found
}

/// A record of a handshake message that is longer than any may be.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &(body.len() as u16).to_be_bytes(), body].concat()
}

#[test]
fn whoever_is_hostile_ends_in_time_and_is_named() {
    // Silent.
    let found = hostile(|stream| {
        std::thread::sleep(Duration::from_secs(4));
        drop(stream);
    });
    assert_eq!(found.began, Began::Unknown);
    assert!(found.problem.as_deref().unwrap().starts_with("no answer within 3"), "{found:?}");
    // Closes at once.
    let found = hostile(drop);
    assert_eq!(found.began, Began::Unknown, "{found:?}");
    // A byte now and then: of a record, then of its body.
    let found = hostile(|mut stream| {
        for byte in record(0x16, &[2; 4000]) {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(40));
        }
    });
    assert_eq!(found.began, Began::Tls, "{found:?}");
    // A record that is begun and never ended.
    let found = hostile(|mut stream| {
        stream.write_all(&[0x16, 3, 3]).unwrap();
        std::thread::sleep(Duration::from_secs(4));
    });
    assert_eq!(found.began, Began::Unknown, "{found:?}");
    // A ServerHello without an end, as fast as it can: many megabytes if nobody stops.
    for length in [0x00ff_ffff_u32, 0xffff] {
        let found = hostile(move |mut stream| {
            let head = (0x0200_0000 | length).to_be_bytes();
            let mut body = head.to_vec();
            body.resize(16_000, 7);
            if stream.write_all(&record(0x16, &body)).is_err() {
                return;
            }
            let more = record(0x16, &[7; 16_000]);
            while stream.write_all(&more).is_ok() {}
        });
        assert_eq!(found.began, Began::Tls, "{found:?}");
    }
    // Warnings and nothing else.
    let found = hostile(|mut stream| while stream.write_all(&record(0x15, &[1, 90])).is_ok() {});
    assert_eq!(found.began, Began::Tls, "{found:?}");
    // Garbage in a record.
    let found = hostile(|mut stream| {
        let _ = stream.write_all(&record(0x16, &[2; 600]));
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    assert_eq!(found.began, Began::Tls, "{found:?}");
    // What it has in common with nobody.
    let found = hostile(|mut stream| {
        let _ = stream.write_all(&record(0x15, &[2, 70]));
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    assert_eq!(found.began, Began::Tls);
    assert!(found.problem.unwrap().contains("ProtocolVersion"));
    // A prelude without an end.
    let address = serve(|mut stream| while stream.write_all(b"220-and more of it\r\n").is_ok() {});
    let found = probe(Authority::new().roots(), address, Some(StartTls::Smtp));
    assert_eq!(found.began, Began::Unknown, "{found:?}");
    // Nobody.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = probe(Authority::new().roots(), nobody, None);
    assert!(found.problem.as_deref().unwrap().contains("connection refused"), "{found:?}");
}

#[test]
fn a_giant_chain_is_read_in_part_or_not_at_all() {
    let authority = Authority::new();
    let provider = Arc::new(ring::default_provider());
    for count in [30, 200] {
        let key = KeyPair::generate().unwrap();
        let own = params().signed_by(&key, &authority.0).unwrap();
        let chain: Vec<CertificateDer<'static>> = std::iter::repeat_n(own.der().clone(), count).collect();
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        let found = probe(authority.roots(), serve_tls(config, |_| ()), None);
        assert_eq!(found.began, Began::Tls);
        assert!(found.chain.len() == 5 || found.problem.is_some(), "{found:?}");
        assert!(found.chain.len() <= 5);
    }
}

#[test]
fn names_are_bounded_and_files_are_read() {
    let authority = Authority::new();
    let mut many = params();
    many.subject_alt_names =
        (0..500).map(|number| SanType::DnsName(format!("n{number}.example").try_into().unwrap())).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = many.signed_by(&key, &authority.0).unwrap();
    let text = key.serialize_pem() + &certificate.pem() + &authority.0.pem();
    let read = of_pem(text.as_bytes()).unwrap();
    assert_eq!((read.len(), read[0].dns.len(), read[0].more_names), (2, 32, 468));
    assert!(read[1].subject.contains("authority"));
    for (broken, words) in [
        ("", "no certificate"),
        (&*key.serialize_pem(), "no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "PEM"),
    ] {
        let error = of_pem(broken.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(Roots::of_pem("x", b"").unwrap_err().to_string().starts_with("x: "));
}
