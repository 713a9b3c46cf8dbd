//! TLS at service ports: what a server was seen to begin with, and which certificates it presented.
//!
//! "Presented" is what a server shows to whoever connects; nobody vouches for what stands in it.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;

/// What is said before TLS begins, where a port does not begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum StartTls {
    /// PostgreSQL's SSLRequest.
    Postgres,
    /// MySQL's SSLRequest, after the server's greeting.
    Mysql,
    /// STARTTLS of SMTP (RFC 3207).
    Smtp,
    /// STARTTLS of IMAP (RFC 9051, section 6.2.1).
    Imap,
    /// StartTLS of LDAP (RFC 4511, section 4.14).
    Ldap,
}

impl StartTls {
    /// Its name, as in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Smtp => "smtp",
            Self::Imap => "imap",
            Self::Ldap => "ldap",
        }
    }
}

/// What a port was seen to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "TlsBegan"))]
#[serde(rename_all = "lowercase")]
pub enum Began {
    /// A TLS record.
    Tls,
    /// Something else.
    Plaintext,
    /// It is not known: nothing came, or nobody looked.
    #[default]
    Unknown,
}

impl Began {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Tls => "began as TLS",
            Self::Plaintext => "plaintext",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether a server wants a certificate of its client, in the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificate {
    /// It asks for one, and refuses whoever has none.
    Demanded,
    /// It asks for one, and goes on without.
    Optional,
    /// It does not ask.
    NotAsked,
    /// It asks for one, and did not say whether it goes on without; or there was no handshake.
    #[default]
    Unknown,
}

impl ClientCertificate {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Demanded => "demanded",
            Self::Optional => "optional",
            Self::NotAsked => "not asked",
            Self::Unknown => "unknown",
        }
    }
}

/// A certificate as it stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Certificate {
    /// Whose it says it is (RFC 4514), empty if it says that by alternative names alone.
    pub subject: String,
    /// Who says so.
    pub issuer: String,
    /// Its number, hexadecimal.
    pub serial: String,
    /// SHA-256 of it, hexadecimal.
    pub sha256: String,
    /// Since when it is valid.
    pub not_before: Timestamp,
    /// Until when; what is later than 2554 is told as that.
    pub not_after: Timestamp,
    /// SPIFFE IDs that are presented: alternative names of the scheme `spiffe`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spiffe: Vec<String>,
    /// Other alternative names that are URIs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
    /// Alternative names of DNS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Alternative names that are addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// How many alternative names are not listed, because there are many or they are of other kinds.
    #[serde(default)]
    pub more_names: usize,
}

impl Certificate {
    /// Why it is not valid at a time, if so.
    #[must_use]
    pub fn invalid(&self, now: Timestamp) -> Option<String> {
        if now < self.not_before {
            return Some(format!("not valid before {}", self.not_before.milliseconds()));
        }
        (now > self.not_after).then(|| format!("expired {}", self.not_after.milliseconds()))
    }

    /// What to call it: its first SPIFFE ID, its subject, its first other name, or its number.
    #[must_use]
    pub fn title(&self) -> &str {
        let subject = Some(&self.subject).filter(|subject| !subject.is_empty());
        self.spiffe.first().or(subject).or(self.dns.first()).or(self.uris.first()).unwrap_or(&self.serial)
    }
}

/// Whether a chain leads to an authority that is trusted; names are not compared with anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "TlsTrust"))]
pub struct Trust {
    /// Whose authorities were taken: `system`, or a file.
    pub roots: String,
    /// Why it does not; none: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What one connection to a port has found. It came without a certificate of its own, and asked for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "TlsProbe"))]
pub struct Probe {
    /// Where it went.
    pub address: SocketAddr,
    /// When it began.
    pub time: Timestamp,
    /// What was said before TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starttls: Option<StartTls>,
    /// What the server began with.
    pub began: Began,
    /// What plaintext looks like, such as `http`; of what was said nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks_like: Option<String>,
    /// Why no more is known: there was no connection, no answer, or no end of the handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The version that was agreed on, such as `TLS 1.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The protocol that the server chose of `h2` and `http/1.1` (RFC 7301), if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// Whether it wants a certificate of its client.
    pub client_certificate: ClientCertificate,
    /// The certificates that it presented, its own first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Certificate>,
    /// Whether it has shown that it holds the key of the first; none: that far it did not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds_key: Option<bool>,
    /// Whether the chain leads to an authority that is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
}

impl Probe {
    /// One that has found nothing yet.
    #[must_use]
    pub const fn new(address: SocketAddr, time: Timestamp, starttls: Option<StartTls>) -> Self {
        Self {
            address,
            time,
            starttls,
            began: Began::Unknown,
            looks_like: None,
            problem: None,
            version: None,
            alpn: None,
            client_certificate: ClientCertificate::Unknown,
            chain: Vec::new(),
            holds_key: None,
            trust: None,
        }
    }

    /// Why the server's own certificate is not valid at a time, if so.
    #[must_use]
    pub fn invalid(&self, now: Timestamp) -> Option<String> {
        self.chain.first()?.invalid(now)
    }
}

/// A file of certificates that agent.toml names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CertificateFile {
    /// Its path.
    pub file: String,
    /// What it holds; what it held last, if it cannot be read.
    pub certificates: Vec<Certificate>,
    /// Why it cannot be read, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Which ports the agent connects to by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "TlsProbing"))]
#[serde(rename_all = "lowercase")]
pub enum Probing {
    /// Those that a rule with `tls` names.
    #[default]
    Rules,
    /// All service ports on overlay addresses.
    All,
    /// None.
    Off,
}

/// What the agent has found by itself, in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "TlsWatched"))]
pub struct Watched {
    /// Which ports it connects to.
    pub probing: Probing,
    /// Seconds between two rounds.
    pub every_seconds: u64,
    /// When the last round ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// What was found at each port of that round.
    pub probes: Vec<Probe>,
    /// Files of certificates.
    pub files: Vec<CertificateFile>,
    /// Why a round was none, or left something out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// What a rule wants of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "TlsWanted"))]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// That flows are counted by how they begin.
    Observe,
    /// That they begin as TLS.
    Required,
}

impl Wanted {
    /// Its name, as in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Required => "required",
        }
    }
}

/// How many flows the kernel has counted, by how they began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "TlsFlows"))]
pub struct Flows {
    /// Whose server began as TLS.
    pub began: u64,
    /// Of which an end that is looked at began otherwise.
    pub plaintext: u64,
    /// Whose beginning was not seen.
    pub unverified: u64,
}

/// Where it is known from what a port begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "TlsSeenBy"))]
#[serde(rename_all = "lowercase")]
pub enum SeenBy {
    /// The kernel's counters of the rules that name the port alone.
    Kernel,
    /// A connection of the agent's.
    Probe,
}

/// A service port of this host that is reachable at overlay addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "TlsPort"))]
pub struct Port {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The overlay addresses where its socket takes packets.
    pub addresses: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// Its socket takes packets of every address.
    pub is_wildcard: bool,
    /// Whose it is; none: the kernel's, or that of a process that cannot be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// The systemd unit of that process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The inodes of its sockets, by which proc(5) tells whose they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inodes: Vec<u64>,
    /// The workload of this host whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// What the strictest rule that names it wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
    /// Every rule that lets anybody reach it requires TLS.
    pub is_required: bool,
    /// What it was seen to begin with.
    pub began: Began,
    /// Where that is known from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<SeenBy>,
    /// What the kernel has counted for the rules with `tls` that name it; they may name other ports, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Flows>,
    /// What plaintext looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks_like: Option<String>,
    /// Whether it wants a certificate of its client.
    pub client_certificate: ClientCertificate,
    /// The certificate that it presents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Why that is not valid now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
    /// Whether it has shown that it holds that certificate's key; none: that far nobody came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds_key: Option<bool>,
    /// Why the chain leads to no authority that is trusted, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<String>,
    /// When it was probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probed: Option<Timestamp>,
    /// Why no more is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// TLS at all service ports of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "TlsCoverage"))]
pub struct Coverage {
    /// The node.
    pub node: String,
    /// The ports, in order.
    pub ports: Vec<Port>,
    /// Files of certificates that agent.toml names.
    pub files: Vec<CertificateFile>,
    /// What could not be seen, and what the answer rests on.
    pub notes: Vec<String>,
}

impl Coverage {
    /// How many ports were seen to begin so.
    #[must_use]
    pub fn count(&self, began: Began) -> usize {
        self.ports.iter().filter(|port| port.began == began).count()
    }

    /// Ports that present a certificate that is not valid now.
    #[must_use]
    pub fn invalid(&self) -> usize {
        self.ports.iter().filter(|port| port.invalid.is_some()).count()
    }
}
