//! `tls` and `starttls`: how what a rule admits has to begin.

use serde::Serialize;

use super::fields::complain;
use super::selector::Malformed;
use super::{Action, Destination};
use crate::frontend::json::{Reader, Value};
use crate::frontend::source::{Span, Spanned};
use crate::{service, suggest};

/// The fields' names.
pub(super) const FIELDS: [&str; 2] = ["tls", "starttls"];

/// `tls` and `starttls` of a rule: what its connections have to begin with. It says nothing of what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Tls {
    /// `tls`: what is done about a connection that begins otherwise.
    #[serde(rename = "tls")]
    pub mode: TlsMode,
    /// `starttls`: the protocol in which client and server agree on TLS first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starttls: Option<Starttls>,
}

/// What is done about a connection that does not begin as TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// It is counted and told of, by what its server says first.
    Observe,
    /// It is dropped from its first plaintext segment on, whichever end sends it.
    Required,
}

/// A protocol in which client and server agree on TLS before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Starttls {
    /// PostgreSQL's SSLRequest, and the server's `S` (PostgreSQL, "Message Flow", SSL session encryption).
    Postgres,
}

impl TlsMode {
    /// As written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Required => "required",
        }
    }
}

impl Starttls {
    /// As written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
        }
    }
}

/// Protocols whose beginning the kernel's program does not follow, and why.
const NOT_FOLLOWED: [(&str, &str); 6] = [
    ("mysql", "its server greets in plaintext, at a length of its own, before anybody asks for TLS"),
    ("smtp", "lines of plaintext, as many as both ends like, come before STARTTLS"),
    ("imap", "lines of plaintext, as many as both ends like, come before STARTTLS"),
    ("pop3", "lines of plaintext, as many as both ends like, come before STLS"),
    ("ldap", "its StartTLS may follow any other request"),
    ("xmpp", "streams of plaintext XML come before STARTTLS"),
];

/// The fields of one rule, as they are read.
#[derive(Default)]
pub(super) struct Fields {
    tls: Option<Spanned<Option<TlsMode>>>,
    starttls: Option<Spanned<Option<Starttls>>>,
}

impl Fields {
    /// Reads one of [`FIELDS`]. What cannot be read is said.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, name: &str, value: &Value<'_>, span: Span) {
        let text = reader.string(value, name);
        let (word, at) = text.map_or((None, span), |text| (Some(text.value), text.span));
        if name == "tls" {
            let mode = word.as_deref().and_then(|word| found(reader, at, mode(word)));
            self.tls = Some(Spanned::new(mode, at));
        } else {
            let starttls = word.as_deref().and_then(|word| found(reader, at, starttls(word)));
            self.starttls = Some(Spanned::new(starttls, at));
        }
    }

    /// What the rule asks for, if all of it goes together. What does not is said, and the policy is not used.
    pub(super) fn of_rule(
        self,
        reader: &mut Reader<'_>,
        action: Option<Action>,
        destinations: &[Destination],
    ) -> Option<Tls> {
        let Some(mode) = self.tls else {
            if let Some(starttls) = self.starttls {
                let problem =
                    Malformed::new("starttls says how TLS begins, and the rule does not ask for TLS")
                        .help("add \"tls\": \"observe\" or \"tls\": \"required\"");
                complain(reader, starttls.span, problem);
            }
            return None;
        };
        if action == Some(Action::Deny) {
            let problem = Malformed::new("a deny has no tls: it admits nothing")
                .help("put it on the accept that admits the connections");
            complain(reader, mode.span, problem);
        }
        let protocols = destinations.iter().flat_map(|destination| &destination.services);
        let mut others = protocols.filter_map(|(protocol, _)| refused(*protocol, self.starttls.is_some()));
        if let Some(problem) = others.next() {
            complain(reader, mode.span, problem);
        }
        let starttls = match self.starttls {
            None => None,
            Some(starttls) => Some(starttls.value?),
        };
        Some(Tls { mode: mode.value?, starttls })
    }
}

fn found<T>(reader: &mut Reader<'_>, at: Span, read: Result<T, Malformed>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(problem) => {
            complain(reader, at, problem);
            None
        }
    }
}

fn mode(word: &str) -> Result<TlsMode, Malformed> {
    let modes = [TlsMode::Observe, TlsMode::Required];
    modes.into_iter().find(|mode| mode.name() == word).ok_or_else(|| {
        let names = modes.iter().map(|mode| mode.name());
        Malformed {
            message: format!("unknown tls \"{word}\""),
            help: suggest::did_you_mean(word, names).or_else(|| {
                Some("write observe to count and tell, or required to drop what begins otherwise".into())
            }),
        }
    })
}

fn starttls(word: &str) -> Result<Starttls, Malformed> {
    if word == Starttls::Postgres.name() {
        return Ok(Starttls::Postgres);
    }
    let known = NOT_FOLLOWED.iter().find(|(name, _)| *name == word);
    Err(match known {
        Some((name, why)) => Malformed::new(format!("starttls \"{name}\" is not followed: {why}"))
            .help("use a port on which TLS begins at once, or leave tls out"),
        None => {
            let names = [Starttls::Postgres.name()];
            let help = suggest::did_you_mean(word, names);
            let only = || Some("postgres is the only one: leave it out where TLS begins at once".into());
            Malformed { message: format!("unknown starttls \"{word}\""), help: help.or_else(only) }
        }
    })
}

/// Why a rule about a protocol cannot ask for TLS.
fn refused(protocol: Option<u8>, starttls: bool) -> Option<Malformed> {
    match protocol {
        Some(service::TCP) => None,
        Some(service::UDP) if !starttls => None,
        Some(service::UDP) => Some(
            Malformed::new("starttls is about tcp alone, and the rule admits udp")
                .help("give udp a rule of its own, without starttls"),
        ),
        None => Some(
            Malformed::new("tls is about tcp and udp, and a rule that names no protocol admits ping as well")
                .help("write \"proto\": \"tcp\", or \"tcp:PORTS\" in a grant's ip"),
        ),
        Some(other) => Some(
            Malformed::new(format!(
                "tls is about tcp and udp, and the rule admits {}",
                service::name_of(other)
            ))
            .help("give it a rule of its own, without tls"),
        ),
    }
}
