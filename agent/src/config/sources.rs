//! The `[[source]]` tables: who is asked who exists.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_peers::tailscale::SOCKET;
use bulkhead_policy::source::Source;
use bulkhead_sources::{Api, Kind, Settings};
use serde::Deserialize;
use toml::Spanned;

use super::file::{at, bounded};
use super::receivers::{self, Files, Given, is_plain};
use crate::exit::Usage;

/// One table. Which keys it may have depends on `kind`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    name: Spanned<String>,
    kind: Spanned<KindName>,
    every_seconds: Option<Spanned<i64>>,
    most_lost_percent: Option<Spanned<i64>>,
    url: Option<Spanned<String>>,
    tailnet: Option<Spanned<String>>,
    token: Option<Spanned<PathBuf>>,
    attributes: Option<Spanned<bool>>,
    ca: Option<Spanned<PathBuf>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    socket: Option<Spanned<PathBuf>>,
    interface: Option<Spanned<String>>,
    names: Option<Spanned<PathBuf>>,
    path: Option<Spanned<PathBuf>>,
    command: Option<Spanned<Vec<String>>>,
    timeout_seconds: Option<Spanned<i64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Tailscale,
    Headscale,
    NetBird,
    LocalApi,
    WireGuard,
    Directory,
    Command,
}

impl KindName {
    const fn name(self) -> &'static str {
        match self {
            Self::Tailscale => "tailscale",
            Self::Headscale => "headscale",
            Self::NetBird => "netbird",
            Self::LocalApi => "localapi",
            Self::WireGuard => "wireguard",
            Self::Directory => "directory",
            Self::Command => "command",
        }
    }

    /// The keys that it knows besides those of every kind.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Tailscale => &["url", "tailnet", "token", "attributes", "ca", "certificate", "key"],
            Self::Headscale | Self::NetBird => &["url", "token", "ca", "certificate", "key"],
            Self::LocalApi => &["socket"],
            Self::WireGuard => &["interface", "names"],
            Self::Directory => &["path"],
            Self::Command => &["command", "timeout_seconds"],
        }
    }

    /// Where its API is, if it is nobody's own.
    const fn url(self) -> Option<&'static str> {
        match self {
            Self::Tailscale => Some("https://api.tailscale.com"),
            Self::NetBird => Some("https://api.netbird.io"),
            _ => None,
        }
    }

    /// Seconds between two questions.
    const fn every(self) -> u32 {
        match self {
            Self::Tailscale | Self::Headscale | Self::NetBird | Self::Command => 10,
            Self::LocalApi | Self::WireGuard | Self::Directory => 1,
        }
    }
}

/// Checks the tables. Relative paths start at `directory`.
pub(super) fn read(
    source: &Source,
    directory: &Path,
    sections: Vec<Section>,
) -> Result<Vec<Settings>, Usage> {
    let name = |section: &Section| section.name.clone();
    receivers::each(source, "source", sections, name, |section| settings(source, directory, &section))
}

fn settings(source: &Source, directory: &Path, section: &Section) -> Result<Settings, Usage> {
    let kind = *section.kind.get_ref();
    check_keys(source, section, kind)?;
    let name = section.name.get_ref().clone();
    let missing = |key: &str| at(source, section.kind.span().start, &format!("source {name} needs `{key}`"));
    let file = |key: &str, given: &Option<Spanned<PathBuf>>| {
        let given = given.as_ref().ok_or_else(|| missing(key))?;
        if given.get_ref().as_os_str().is_empty() {
            return Err(at(source, given.span().start, &format!("{key}: is empty; name a file")));
        }
        Ok(directory.join(given.get_ref()))
    };
    let number = |key: &str, given: &Option<Spanned<i64>>, usual: u32, bounds| {
        given.as_ref().map_or(Ok(usual), |value| bounded(source, key, value, bounds))
    };
    let every = number("every_seconds", &section.every_seconds, kind.every(), 1..=3600)?;
    let lost = number("most_lost_percent", &section.most_lost_percent, 20, 0..=100)?;
    let kind = match kind {
        KindName::Tailscale | KindName::Headscale | KindName::NetBird => {
            let api = api(source, directory, section, file("token", &section.token)?)?;
            match kind {
                KindName::Tailscale => Kind::Tailscale(api),
                KindName::Headscale => Kind::Headscale(api),
                _ => Kind::NetBird(api),
            }
        }
        KindName::LocalApi => {
            let socket = section.socket.is_some().then(|| file("socket", &section.socket)).transpose()?;
            Kind::LocalApi { socket: socket.unwrap_or_else(|| SOCKET.into()) }
        }
        KindName::WireGuard => {
            let interface = section.interface.as_ref().ok_or_else(|| missing("interface"))?.get_ref().clone();
            Kind::WireGuard { interface, names: file("names", &section.names)? }
        }
        KindName::Directory => Kind::Directory { path: file("path", &section.path)? },
        KindName::Command => {
            let command = section.command.as_ref().ok_or_else(|| missing("command"))?;
            // It runs as the agent does: no search decides which program that is.
            if !command.get_ref().first().is_some_and(|program| program.starts_with('/')) {
                let words = "command: name the program by its whole path, then its arguments: [\"/usr/bin/x\", \"-y\"]";
                return Err(at(source, command.span().start, words));
            }
            let seconds = number("timeout_seconds", &section.timeout_seconds, 10, 1..=600)?;
            let patience = Duration::from_secs(seconds.into());
            Kind::Command { command: command.get_ref().clone(), patience }
        }
    };
    Ok(Settings { name, every: Duration::from_secs(every.into()), most_lost: lost as u8, kind })
}

fn api(source: &Source, directory: &Path, section: &Section, token: PathBuf) -> Result<Api, Usage> {
    let kind = *section.kind.get_ref();
    let url = match (&section.url, kind.url()) {
        (Some(url), _) => {
            receivers::check_url(source, url, "the API's server, such as https://headscale.example.com")?;
            if url.get_ref().contains(['?', '#']) {
                let words = "url: has neither `?` nor `#`: paths of the API come behind it";
                return Err(at(source, url.span().start, words));
            }
            url.get_ref().clone()
        }
        (None, Some(usual)) => usual.to_owned(),
        (None, None) => {
            let words = format!("source {} needs `url`", section.name.get_ref());
            return Err(at(source, section.kind.span().start, &words));
        }
    };
    let tailnet = section.tailnet.as_ref();
    let is_fit = |name: &str| {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
        !name.is_empty() && name.bytes().all(is_fit)
    };
    if let Some(given) = tailnet.filter(|given| !is_fit(given.get_ref())) {
        let words = "tailnet: is no tailnet's name, such as example.com, or `-` for that of the token";
        return Err(at(source, given.span().start, words));
    }
    let files = Files { ca: &section.ca, certificate: &section.certificate, key: &section.key };
    let tls = files.tls(source, directory, section.url.as_ref().is_some_and(is_plain))?;
    let tailnet = tailnet.map_or_else(|| "-".to_owned(), |given| given.get_ref().clone());
    let attributes = section.attributes.as_ref().is_some_and(|given| *given.get_ref());
    Ok(Api { url, tailnet, token, attributes, tls })
}

/// That there is no key which its kind does not know.
fn check_keys(source: &Source, section: &Section, kind: KindName) -> Result<(), Usage> {
    let given: [(&str, &dyn Given); 13] = [
        ("url", &section.url),
        ("tailnet", &section.tailnet),
        ("token", &section.token),
        ("attributes", &section.attributes),
        ("ca", &section.ca),
        ("certificate", &section.certificate),
        ("key", &section.key),
        ("socket", &section.socket),
        ("interface", &section.interface),
        ("names", &section.names),
        ("path", &section.path),
        ("command", &section.command),
        ("timeout_seconds", &section.timeout_seconds),
    ];
    receivers::check_keys(source, &given, kind.keys(), &format!("sources of kind \"{}\"", kind.name()))
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<Vec<Settings>, String> {
        let config = Config::parse(Path::new("/etc/bulkhead/agent.toml"), text);
        config.map(|config| config.sources).map_err(|error| error.0)
    }

    #[test]
    fn sources_stand_in_their_order_with_what_is_usual() {
        let text = "[[source]]\nname = \"t\"\nkind = \"tailscale\"\ntoken = \"t.token\"\n\
                    [[source]]\nname = \"c\"\nkind = \"command\"\ncommand = [\"/bin/list\", \"-j\"]\nevery_seconds = 60\n";
        let found = parse(text).unwrap();
        let Kind::Tailscale(api) = &found[0].kind else { panic!("{found:?}") };
        assert_eq!((&*api.url, &*api.tailnet), ("https://api.tailscale.com", "-"));
        assert_eq!((api.token.to_str(), api.attributes), (Some("/etc/bulkhead/t.token"), false));
        assert_eq!((found[0].every.as_secs(), found[0].most_lost), (10, 20));
        let command = ["/bin/list", "-j"].map(str::to_owned).to_vec();
        let patience = Duration::from_secs(10);
        assert_eq!((&found[1].kind, found[1].every.as_secs()), (&Kind::Command { command, patience }, 60));
    }

    #[test]
    fn what_a_source_cannot_have_is_told_with_its_place() {
        let source = |rest: &str| format!("[[source]]\nname = \"s\"\n{rest}");
        let api = |rest: &str| source(&format!("kind = \"tailscale\"\ntoken = \"t\"\n{rest}"));
        for (text, place, words) in [
            (source("kind = \"ldap\""), "3:8", "unknown variant `ldap`"),
            (source("kind = \"tailscale\""), "3:8", "source s needs `token`"),
            (source("kind = \"headscale\"\ntoken = \"t\""), "3:8", "source s needs `url`"),
            (source("kind = \"directory\"\npath = \"\""), "4:8", "path: is empty"),
            (
                source("kind = \"directory\"\npath = \"x\"\nurl = \"x\""),
                "5:7",
                "not of sources of kind \"directory\"",
            ),
            (source("kind = \"command\"\ncommand = [\"list\"]"), "4:11", "by its whole path"),
            (source("kind = \"command\"\ncommand = []"), "4:11", "by its whole path"),
            (source("kind = \"wireguard\"\ninterface = \"wg0\""), "3:8", "source s needs `names`"),
            (api("tailnet = \"a/b\""), "5:11", "no tailnet's name"),
            (api("url = \"http://x/?k=v\""), "5:7", "neither `?` nor `#`"),
            (api("url = \"x\""), "5:7", "not the whole URL"),
            (api("every_seconds = 0"), "5:17", "not between 1 and 3600"),
            (api("most_lost_percent = 101"), "5:21", "not between 0 and 100"),
            (api("[[source]]\nname = \"s\"\nkind = \"localapi\""), "6:8", "is there twice"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(
                error.contains(&format!("agent.toml:{place}: ")) && error.contains(words),
                "{text}: {error}"
            );
        }
    }
}
