//! Selectors: the words that stand for sets of identities or addresses.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::frontend::inventory::{SPIFFE_SCHEME, SpiffePattern};
use crate::suggest;

/// Who a rule is about, as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// `*`
    Any,
    /// `tag:*`: whoever carries a tag. Ours.
    AnyTag,
    /// `tag:NAME`, with its prefix.
    Tag(String),
    /// `group:NAME`, with its prefix.
    Group(String),
    /// `NAME@DOMAIN`, in small letters.
    User(String),
    /// `user:*@DOMAIN`: every user of a domain; the domain in small letters.
    Domain(String),
    /// `ipset:NAME`, with its prefix.
    IpSet(String),
    /// `svc:NAME`, with its prefix: a service of Tailscale, whose addresses no inventory has.
    Service(String),
    /// `autogroup:NAME`
    Autogroup(Autogroup),
    /// `spiffe://TRUST_DOMAIN/PATH`, or `/*` behind it: workloads by their SPIFFE IDs. Ours.
    Spiffe(SpiffePattern),
    /// An address or prefix.
    Prefix(IpNet),
    /// Any other word: a name from `hosts`.
    Host(String),
}

/// The sets that need no definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Autogroup {
    /// Devices of users.
    Member,
    /// Tagged devices.
    Tagged,
    /// Devices of the source's own user.
    OwnDevices,
    /// Public addresses, through an exit node.
    Internet,
    /// Every address, known or not.
    DangerAll,
    /// Devices of users who hold a role; the role's name.
    Role(&'static str),
}

/// Every autogroup by name.
const AUTOGROUPS: [(&str, Autogroup); 13] = [
    ("autogroup:member", Autogroup::Member),
    ("autogroup:members", Autogroup::Member),
    ("autogroup:tagged", Autogroup::Tagged),
    ("autogroup:self", Autogroup::OwnDevices),
    ("autogroup:internet", Autogroup::Internet),
    ("autogroup:danger-all", Autogroup::DangerAll),
    ("autogroup:owner", Autogroup::Role("owner")),
    ("autogroup:admin", Autogroup::Role("admin")),
    ("autogroup:network-admin", Autogroup::Role("network-admin")),
    ("autogroup:it-admin", Autogroup::Role("it-admin")),
    ("autogroup:billing-admin", Autogroup::Role("billing-admin")),
    ("autogroup:auditor", Autogroup::Role("auditor")),
    ("autogroup:shared", Autogroup::Role("shared")),
];

impl Autogroup {
    /// Its name in a policy.
    #[must_use]
    pub fn name(self) -> &'static str {
        AUTOGROUPS.iter().find(|(_, autogroup)| *autogroup == self).map_or("autogroup:?", |(name, _)| name)
    }
}

/// Why a word is no selector: what is wrong and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Malformed {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// A word that cannot be one, whatever the rest of the policy says.
    pub fn parse(word: &str) -> Result<Self, Malformed> {
        if word.is_empty() {
            return Err(Malformed::new("an empty selector"));
        }
        if word != word.trim() {
            return Err(Malformed::new(format!("\"{word}\" has spaces around it")));
        }
        match word {
            "*" => return Ok(Self::Any),
            "tag:*" => return Ok(Self::AnyTag),
            _ => {}
        }
        if word.starts_with(SPIFFE_SCHEME) {
            return SpiffePattern::parse(word).map(Self::Spiffe).map_err(|why| {
                Malformed::new(format!("\"{word}\" is no SPIFFE ID of workloads: {why}"))
                    .help("write spiffe://TRUST_DOMAIN/PATH, or spiffe://TRUST_DOMAIN/PATH/* for all below")
            });
        }
        match word.split_once(':').map(|(kind, rest)| (kind, rest.is_empty())) {
            Some(("user", _)) => {
                let domain = word
                    .strip_prefix("user:*@")
                    .filter(|domain| !domain.is_empty() && !domain.contains(['@', '*']));
                return domain.map(|domain| Self::Domain(domain.to_lowercase())).ok_or_else(|| {
                    Malformed::new(format!("\"{word}\" is no set of users"))
                        .help("write user:*@DOMAIN for everybody of a domain, or a login by itself")
                });
            }
            Some(("tag" | "group" | "ipset" | "svc", true)) => {
                return Err(Malformed::new(format!("\"{word}\" has no name after the colon")));
            }
            Some(("tag" | "group" | "ipset" | "svc", _))
                if word.matches(':').count() > 1 || word.contains(char::is_whitespace) =>
            {
                return Err(Malformed::new(format!(
                    "\"{word}\" is no name: it has a colon or a space in it"
                )));
            }
            Some(("tag", _)) => return Ok(Self::Tag(word.into())),
            Some(("ipset", _)) => return Ok(Self::IpSet(word.into())),
            Some(("svc", _)) => return Ok(Self::Service(word.into())),
            Some(("group", _)) => return Ok(Self::Group(word.into())),
            Some(("autogroup", _)) => {
                let known = AUTOGROUPS.iter().find(|(name, _)| *name == word);
                return known.map(|(_, autogroup)| Self::Autogroup(*autogroup)).ok_or_else(|| Malformed {
                    message: format!("unknown autogroup \"{word}\""),
                    help: suggest::did_you_mean(word, AUTOGROUPS.iter().map(|(name, _)| *name)),
                });
            }
            _ => {}
        }
        if word.contains('@') {
            return Ok(Self::User(word.to_lowercase()));
        }
        if let Some(prefix) = prefix(word)? {
            return Ok(Self::Prefix(prefix));
        }
        if word.contains([':', '/', '[', ']', '*']) {
            return Err(Malformed::new(format!("\"{word}\" is no selector")).help(
                "a selector is *, tag:…, group:…, autogroup:…, ipset:…, spiffe://…, a user's login, an address, a prefix, or a name from hosts",
            ));
        }
        Ok(Self::Host(word.into()))
    }
}

/// The prefix that a word is, if it looks like an address or a prefix at all. An IPv6 address may
/// stand in brackets, the length after them.
pub(super) fn prefix(word: &str) -> Result<Option<IpNet>, Malformed> {
    let bare = match word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, after)) if after.is_empty() || after.starts_with('/') => {
            if inside.parse::<std::net::Ipv6Addr>().is_err() {
                let message = format!("\"{word}\": square brackets are only valid around IPv6 addresses");
                return Err(
                    Malformed::new(message).help("write, for instance, [fd7a::1]:443 or [fd7a::]/48:443")
                );
            }
            format!("{inside}{after}")
        }
        _ => word.to_string(),
    };
    let (address, length) = match bare.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (bare.as_str(), None),
    };
    let Ok(address) = address.parse::<IpAddr>() else { return Ok(None) };
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(Malformed::new(format!("\"{word}\" is IPv4 in IPv6 form"))
            .help(format!("write {}", address.to_canonical())));
    }
    let widest = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => widest,
        Some(digits) => {
            let well_formed = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            match digits.parse::<u8>() {
                Ok(length) if well_formed && length <= widest => length,
                _ => {
                    let message = format!("\"{word}\": the prefix length must be 0 to {widest}");
                    return Err(Malformed::new(message));
                }
            }
        }
    };
    let net = IpNet::new(address, length).map_err(|error| Malformed::new(format!("\"{word}\": {error}")))?;
    if net.trunc() != net {
        return Err(Malformed::new(format!("\"{word}\" has bits set beyond its prefix length"))
            .help(format!("write {} for the network, or {address} for the one address", net.trunc())));
    }
    Ok(Some(net))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::AnyTag => f.write_str("tag:*"),
            Self::Tag(name)
            | Self::Group(name)
            | Self::User(name)
            | Self::Host(name)
            | Self::IpSet(name)
            | Self::Service(name) => f.write_str(name),
            Self::Domain(domain) => write!(f, "user:*@{domain}"),
            Self::Autogroup(autogroup) => f.write_str(autogroup.name()),
            Self::Spiffe(pattern) => pattern.fmt(f),
            Self::Prefix(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Self::Prefix(net) => write!(f, "{net}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for word in [
            "*",
            "tag:*",
            "tag:a",
            "group:a",
            "ipset:a",
            "svc:a",
            "group:a@b.c",
            "user:*@b.c",
            "a@b.c",
            "autogroup:self",
            "autogroup:member",
            "10.0.0.0/8",
            "10.1.2.3",
            "fd7a::1",
            "fd7a::/48",
            "spiffe://a.b/c",
            "spiffe://a.b/c/*",
            "spiffe://a.b/*",
            "webserver",
        ] {
            assert_eq!(Selector::parse(word).unwrap().to_string(), word);
        }
        assert_eq!(Selector::parse("[fd7a::1]"), Selector::parse("fd7a::1"));
        assert_eq!(Selector::parse("[fd7a::]/48"), Selector::parse("fd7a::/48"));
        assert_eq!(Selector::parse("10.1.2.3/32"), Selector::parse("10.1.2.3"));
    }

    #[test]
    fn malformed_words_are_refused() {
        for word in [
            "",
            " a",
            "tag:",
            "tag:a:b",
            "group:a b",
            "group:",
            "ipset:",
            "svc:",
            "svc:a:b",
            "user:a@b.c",
            "user:*@",
            "user:*",
            "autogroup:memer",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::ffff:10.0.0.1",
            "a:b",
            "10.0.0.0/+8",
            "[fd7a::/48]",
            "[10.1.2.3]",
            "[web]",
            "spiffe://a.b",
            "spiffe://a.b/c:80",
            "spiffe:a",
        ] {
            assert!(Selector::parse(word).is_err(), "{word}");
        }
        let help = Selector::parse("autogroup:memer").unwrap_err().help;
        assert_eq!(help.as_deref(), Some("did you mean \"autogroup:member\"?"));
    }
}
