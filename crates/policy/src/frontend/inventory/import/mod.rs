//! Inventories made from what other tools list, with what only people know taken from the
//! inventory before.

mod devices;
mod headscale;
mod merge;
#[cfg(test)]
mod merge_tests;
mod netbird;
#[cfg(test)]
mod outside_tests;
mod tailscale;
#[cfg(test)]
mod tests;
mod wireguard;
mod write;

pub use devices::devices;
pub use headscale::headscale;
pub use merge::merge;
pub use netbird::netbird;
pub use tailscale::tailscale;
pub use wireguard::{peers, wireguard};
pub use write::write;
pub(super) use write::{line_of, text};

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Node, Owner, User};
use crate::frontend::diagnostic::{Diagnostic, Findings};
use crate::frontend::json::{Kind, Object, Value};
use crate::frontend::policy::posture::Attributes;
use crate::frontend::source::{Source, Span};

/// What another tool knows. It is the authority on who exists.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Nodes, in the order of the list.
    pub nodes: Vec<Listed>,
    /// Users who have a node, with the roles that the list tells of. One may be there several times.
    pub users: Vec<User>,
}

/// One node as listed. What is none, the list does not say.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// WireGuard public key.
    pub key: Option<[u8; 32]>,
    /// Overlay addresses.
    pub addresses: Option<Vec<IpAddr>>,
    /// Approved routes.
    pub routes: Option<Vec<IpNet>>,
    /// Who it is.
    pub owner: Option<Owner>,
    /// Posture attributes that the list knows.
    pub posture: Attributes,
    /// When some of them end, ns since the Unix epoch.
    pub posture_expires: BTreeMap<String, u64>,
    /// When its key expires, ns since the Unix epoch, if it ever does.
    pub expires: Option<Option<u64>>,
    /// Whether it may answer and never start.
    pub jailed: Option<bool>,
}

/// A merged inventory, to be written.
#[derive(Clone, Debug)]
pub struct Merged {
    /// Nodes by name.
    pub nodes: Vec<Node>,
    /// Users by login.
    pub users: Vec<User>,
}

/// Reads one list's JSON.
struct Lister<'s> {
    source: &'s Source,
    findings: &'s mut Findings,
}

/// What is told of one list: more is of the same kind.
const FINDINGS: usize = 100;

impl Lister<'_> {
    /// Whether so much is wrong that the rest need not be read.
    fn is_hopeless(&self) -> bool {
        self.findings.0.len() > FINDINGS
    }

    fn error(&mut self, span: Span, message: String, help: &str) {
        self.findings.push(Diagnostic::error(self.source, span, message).help(help));
    }

    /// A string that is there and not empty.
    fn text(&mut self, object: &Object<'_>, name: &str) -> Option<String> {
        let value = object.get(name)?;
        match &value.kind {
            Kind::String(text) if text.is_empty() => None,
            Kind::String(text) => Some(text.to_string()),
            Kind::Null => None,
            _ => {
                self.error(
                    value.span,
                    format!("{name} is no string"),
                    "import what the tool printed, unchanged",
                );
                None
            }
        }
    }

    /// A list of strings; none if it is not there.
    fn texts(&mut self, object: &Object<'_>, name: &str) -> Option<Vec<(String, Span)>> {
        let value = object.get(name)?;
        match &value.kind {
            Kind::Null => None,
            Kind::Array(elements) => {
                let each = elements.iter().filter_map(|element| match &element.kind {
                    Kind::String(text) => Some((text.to_string(), element.span)),
                    _ => {
                        let message = format!("an item of {name} is no string");
                        self.error(element.span, message, "import what the tool printed, unchanged");
                        None
                    }
                });
                Some(each.collect())
            }
            _ => {
                self.error(
                    value.span,
                    format!("{name} is no list"),
                    "import what the tool printed, unchanged",
                );
                None
            }
        }
    }

    /// A list of addresses or prefixes.
    fn parsed<T: std::str::FromStr>(&mut self, object: &Object<'_>, name: &str) -> Option<Vec<T>> {
        let texts = self.texts(object, name)?;
        let mut all = Vec::with_capacity(texts.len());
        for (text, span) in texts {
            match text.parse() {
                Ok(value) => all.push(value),
                Err(_) => self.error(
                    span,
                    format!("\"{text}\" in {name} is no address or prefix"),
                    "import what the tool printed, unchanged",
                ),
            }
        }
        Some(all)
    }

    /// A node's key, which these tools print in hexadecimal.
    fn key(&mut self, object: &Object<'_>, name: &str) -> Option<[u8; 32]> {
        let text = self.text(object, name)?;
        let key = text.strip_prefix("nodekey:").and_then(hexadecimal);
        if key.is_none() {
            let span = object.get(name).map_or(object.span, |value| value.span);
            let help = "a node's key is \"nodekey:\" and 64 hexadecimal digits";
            self.error(span, format!("\"{text}\" is no node's key"), help);
        }
        key
    }

    /// Whether a flag is set; one that is not there is not.
    fn flag(&mut self, object: &Object<'_>, name: &str) -> bool {
        match object.get(name).map(|value| (&value.kind, value.span)) {
            None => false,
            Some((Kind::Boolean(set), _)) => *set,
            Some((_, span)) => {
                let message = format!("{name} is neither true nor false");
                self.error(span, message, "import what the tool printed, unchanged");
                false
            }
        }
    }

    /// A time as RFC 3339, in ns since the Unix epoch; none for Go's zero time, which means never.
    fn moment(&mut self, object: &Object<'_>, name: &str) -> Option<u64> {
        let text = self.text(object, name)?;
        let Ok(time) = OffsetDateTime::parse(&text, &Rfc3339) else {
            let span = object.get(name).map_or(object.span, |value| value.span);
            self.error(
                span,
                format!("\"{text}\" in {name} is no time"),
                "write RFC 3339: 2027-01-01T00:00:00Z",
            );
            return None;
        };
        u64::try_from(time.unix_timestamp_nanos()).ok().filter(|time| *time > 0)
    }

    /// Refuses a node by which no packet could be known: a list of another form would leave nobody.
    fn identified(&mut self, listed: &Listed, span: Span) {
        let is_empty = listed.addresses.as_ref().is_none_or(Vec::is_empty);
        for (is_missing, what) in [(listed.key.is_none(), "key"), (is_empty, "address")] {
            if is_missing {
                let message = format!("{} has no {what}", listed.name);
                self.error(span, message, "import what the tool printed, unchanged; is the node set up?");
            }
        }
    }

    /// A list of tags that a rule can name.
    fn tags(&mut self, object: &Object<'_>, names: &[&str]) -> Vec<String> {
        let mut tags: Vec<String> = Vec::new();
        for name in names {
            tags.extend(self.texts(object, name).into_iter().flatten().map(|(tag, _)| tag));
        }
        tags.sort();
        tags.dedup();
        tags
    }
}

fn object<'v, 'a>(value: &'v Value<'a>) -> Option<&'v Object<'a>> {
    match &value.kind {
        Kind::Object(object) => Some(object),
        _ => None,
    }
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(key)
}

/// A key as WireGuard writes it.
fn base64(key: &[u8; 32]) -> String {
    BASE64_STANDARD.encode(key)
}
