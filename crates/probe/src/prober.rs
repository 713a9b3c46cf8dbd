//! One connection, and what it finds.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bulkhead_api::event::Timestamp;
use bulkhead_api::tls::{Began, ClientCertificate, Probe, StartTls, Trust};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, ClientConnection, Error, ProtocolVersion};

use crate::begins::{Begins, HEAD, begins, looks_like};
use crate::certificate::certificate;
use crate::connection::{Broken, Connection};
use crate::handshake::{Shown, configuration};
use crate::roots::Roots;
use crate::starttls::{self, Prelude};

/// Certificates of a chain that are read.
const CHAIN: usize = 5;

/// Bytes by which plaintext is guessed at, and how long more of them are waited for.
const GUESSED: usize = 64;
const MORE: Duration = Duration::from_millis(200);

/// How long a server of TLS 1.3 that has asked for a certificate may take to say what it thinks of there being none;
/// then it is told goodbye, which it may answer for as long.
const VERDICT: Duration = Duration::from_millis(1000);

/// What one probe may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the beginning of the connection to its end.
    pub time: Duration,
    /// Bytes that are read.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(5), bytes: 128 << 10 }
    }
}

/// Where a probe goes, and what it says there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address and port.
    pub address: SocketAddr,
    /// What is said before TLS begins.
    pub starttls: Option<StartTls>,
    /// The name that the server is asked for (SNI, RFC 6066); none: none is sent.
    pub name: Option<String>,
}

/// Makes probes.
#[derive(Debug)]
pub struct Prober {
    provider: Arc<CryptoProvider>,
    roots: Roots,
    limits: Limits,
}

/// Where a handshake has ended.
enum End {
    /// It is done.
    Done,
    /// The server has sent an alert.
    Alert(AlertDescription),
    /// It cannot go on.
    Failed(String),
}

impl Prober {
    /// With the authorities that chains are to lead to.
    #[must_use]
    pub fn new(roots: Roots, limits: Limits) -> Self {
        Self { provider: Arc::new(ring::default_provider()), roots, limits }
    }

    /// Connects once. Whatever comes of it is an answer.
    #[must_use]
    pub fn probe(&self, target: &Target) -> Probe {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = Timestamp::from_unix(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        let mut probe = Probe::new(target.address, time, target.starttls);
        if let Err(broken) = self.connect(target, &mut probe) {
            probe.problem = Some(broken.to_string());
        }
        probe
    }

    fn connect(&self, target: &Target, probe: &mut Probe) -> Result<(), Broken> {
        let mut connection = Connection::open(target.address, self.limits.time, self.limits.bytes)?;
        if let Some(by) = target.starttls {
            match starttls::ask(&mut connection, by)? {
                Prelude::Agreed => {}
                Prelude::Declined => {
                    probe.began = Began::Plaintext;
                    probe.looks_like = Some(by.name().to_owned());
                    probe.problem = Some(format!("it does without TLS when asked by {}", by.name()));
                    return Ok(());
                }
                // It may speak TLS from the first byte.
                Prelude::Other => {
                    probe.problem = Some(format!("it does not answer as {} does", by.name()));
                    return Ok(());
                }
            }
        }
        let system = |error: Error| Broken::System(error.to_string());
        let (config, shown) = configuration(&self.provider).map_err(system)?;
        let name = match &target.name {
            Some(name) => {
                ServerName::try_from(name.clone()).map_err(|error| Broken::System(error.to_string()))?
            }
            // An address is not sent.
            None => ServerName::from(target.address.ip()),
        };
        let mut tls = ClientConnection::new(config, name).map_err(system)?;
        send(&mut connection, &mut tls)?;
        let Some(first) = first(&mut connection, probe)? else { return Ok(()) };
        let ended = complete(&mut connection, &mut tls, &first);
        let shown = taken(&shown);
        self.note(probe, &tls, &shown);
        match ended? {
            End::Done => {
                probe.client_certificate = verdict(&mut connection, &mut tls, &shown);
            }
            End::Alert(alert) if shown.has_asked && refuses_without(alert) => {
                probe.client_certificate = ClientCertificate::Demanded;
            }
            End::Alert(alert) => probe.problem = Some(format!("the server ended the handshake: {alert:?}")),
            End::Failed(why) => probe.problem = Some(format!("the handshake failed: {why}")),
        }
        Ok(())
    }

    /// Notes what was shown.
    fn note(&self, probe: &mut Probe, tls: &ClientConnection, shown: &Shown) {
        probe.version = tls.protocol_version().map(|version| match version {
            ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
            ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
            other => format!("{other:?}"),
        });
        probe.alpn = tls.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        probe.holds_key = shown.holds_key;
        for der in shown.chain.iter().take(CHAIN) {
            match certificate(der) {
                Ok(read) => probe.chain.push(read),
                Err(error) => {
                    probe.problem = Some(error.to_string());
                    break;
                }
            }
        }
        if !shown.chain.is_empty() {
            let problem = self.trusts(shown).err().map(|error| match error {
                _ if self.roots.store.is_empty() => "there is no authority to trust".to_owned(),
                Error::InvalidCertificate(CertificateError::Other(why)) => why.0.to_string(),
                Error::InvalidCertificate(why) => why.to_string(),
                other => other.to_string(),
            });
            probe.trust = Some(Trust { roots: self.roots.name.clone(), problem });
        }
    }

    fn trusts(&self, shown: &Shown) -> Result<(), Error> {
        let [first, others @ ..] = &shown.chain[..] else { return Err(Error::NoCertificatesPresented) };
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(first)?,
            &self.roots.store,
            others,
            UnixTime::now(),
            self.provider.signature_verification_algorithms.all,
        )
    }
}

fn taken(shown: &Mutex<Shown>) -> Shown {
    shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The first bytes, if they are those of a record; else they are no more than guessed at.
fn first(connection: &mut Connection, probe: &mut Probe) -> Result<Option<Vec<u8>>, Broken> {
    let mut bytes = Vec::with_capacity(GUESSED);
    loop {
        let mut room = [0; GUESSED];
        let wanted = if bytes.len() < HEAD { HEAD - bytes.len() } else { GUESSED };
        match connection.read(&mut room[..wanted], None) {
            Ok(length) => bytes.extend_from_slice(&room[..length]),
            // What began like a record and went no further is none.
            Err(Broken::Closed | Broken::Reset) if !bytes.is_empty() => break,
            Err(broken) => return Err(broken),
        }
        match begins(&bytes) {
            Begins::Tls => {
                probe.began = Began::Tls;
                return Ok(Some(bytes));
            }
            Begins::Plaintext => break,
            Begins::Undecided => {}
        }
    }
    let by = Instant::now() + MORE;
    while bytes.len() < GUESSED {
        let mut room = [0; GUESSED];
        let Ok(length) = connection.read(&mut room[..GUESSED - bytes.len()], Some(by)) else { break };
        bytes.extend_from_slice(&room[..length]);
    }
    probe.began = Began::Plaintext;
    probe.looks_like = looks_like(&bytes).map(str::to_owned);
    Ok(None)
}

/// Goes on to the handshake's end.
fn complete(connection: &mut Connection, tls: &mut ClientConnection, first: &[u8]) -> Result<End, Broken> {
    let mut ended = take(tls, first);
    let mut buffer = [0; 4096];
    loop {
        // An alert of ours says why, if it still gets there. A server that takes no more may have said why, too.
        let sent = send(connection, tls);
        if let Some(end) = ended {
            return Ok(end);
        }
        if !tls.is_handshaking() {
            return Ok(End::Done);
        }
        let length = connection.read(&mut buffer, None).map_err(|broken| sent.err().unwrap_or(broken))?;
        ended = take(tls, &buffer[..length]);
    }
}

/// Takes what the server has sent; its end, if that ends it.
fn take(tls: &mut ClientConnection, mut bytes: &[u8]) -> Option<End> {
    while !bytes.is_empty() {
        match tls.read_tls(&mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Some(End::Failed(error.to_string())),
        }
        match tls.process_new_packets() {
            Ok(_) => {}
            Err(Error::AlertReceived(alert)) => return Some(End::Alert(alert)),
            Err(error) => return Some(End::Failed(error.to_string())),
        }
    }
    // What a server says beyond the handshake is nobody's business here, and must not fill memory.
    let _ = std::io::copy(&mut tls.reader(), &mut std::io::sink());
    None
}

fn send(connection: &mut Connection, tls: &mut ClientConnection) -> Result<(), Broken> {
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).map_err(|error| Broken::System(error.to_string()))?;
    }
    connection.write(&bytes)
}

/// Whether an alert is what servers send to whom has no certificate: `certificate_required` of TLS 1.3; with 1.2
/// OpenSSL and Mbed TLS say `handshake_failure`, Go, NSS and Java `bad_certificate`.
fn refuses_without(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::NoCertificate
            | AlertDescription::AccessDenied
    )
}

/// Whether a server whose handshake is done goes on without a certificate. In TLS 1.2 its last message says so. In 1.3
/// it has not seen yet that there is none: a ticket, which it makes once it has (RFC 8446, section 4.6.1), says that it
/// goes on, and an alert that it does not. A server that makes no tickets may answer a goodbye in good order.
fn verdict(connection: &mut Connection, tls: &mut ClientConnection, shown: &Shown) -> ClientCertificate {
    if !shown.has_asked {
        return ClientCertificate::NotAsked;
    }
    if tls.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return ClientCertificate::Optional;
    }
    let mut has_said_goodbye = false;
    let mut by = Instant::now() + VERDICT;
    let mut buffer = [0; 4096];
    loop {
        if tls.tls13_tickets_received() > 0 {
            return ClientCertificate::Optional;
        }
        match connection.read(&mut buffer, Some(by)) {
            Ok(length) => match take(tls, &buffer[..length]) {
                Some(End::Alert(alert)) if refuses_without(alert) => return ClientCertificate::Demanded,
                Some(_) => return ClientCertificate::Unknown,
                None if has_said_goodbye && is_closed(tls) => return ClientCertificate::Optional,
                None => {}
            },
            Err(Broken::Silent(_)) if !has_said_goodbye => {
                has_said_goodbye = true;
                by = Instant::now() + VERDICT;
                tls.send_close_notify();
                if send(connection, tls).is_err() {
                    return ClientCertificate::Unknown;
                }
            }
            Err(_) => return ClientCertificate::Unknown,
        }
    }
}

fn is_closed(tls: &mut ClientConnection) -> bool {
    tls.process_new_packets().is_ok_and(|state| state.peer_has_closed())
}
