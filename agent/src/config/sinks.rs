//! The `[[sink]]` tables: where records of the event log go.

use std::path::{Path, PathBuf};

use bulkhead_export::Format;
use bulkhead_policy::source::Source;
use bulkhead_sinks::{From, Kind, Settings};
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
    format: Option<FormatName>,
    from: Option<FromName>,
    path: Option<Spanned<PathBuf>>,
    rotate_mib: Option<Spanned<i64>>,
    keep: Option<Spanned<i64>>,
    address: Option<Spanned<String>>,
    url: Option<Spanned<String>>,
    headers: Option<Spanned<PathBuf>>,
    ca: Option<Spanned<PathBuf>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    File,
    Stdout,
    Socket,
    Syslog,
    Otlp,
}

impl KindName {
    const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Stdout => "stdout",
            Self::Socket => "socket",
            Self::Syslog => "syslog",
            Self::Otlp => "otlp",
        }
    }

    /// The keys that it knows besides those of every kind.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::File => &["path", "rotate_mib", "keep"],
            Self::Stdout => &[],
            Self::Socket => &["path"],
            Self::Syslog => &["path", "address", "ca", "certificate", "key"],
            Self::Otlp => &["url", "headers", "ca", "certificate", "key"],
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormatName {
    Ocsf,
    Bulkhead,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FromName {
    Beginning,
    Now,
}

/// The port of syslog over TLS (RFC 5425).
const SYSLOG_TLS: u16 = 6514;

/// Checks the tables. Relative paths start at `directory`.
pub(super) fn read(
    source: &Source,
    directory: &Path,
    sections: Vec<Section>,
) -> Result<Vec<Settings>, Usage> {
    let name = |section: &Section| section.name.clone();
    receivers::each(source, "sink", sections, name, |section| settings(source, directory, section))
}

fn settings(source: &Source, directory: &Path, section: Section) -> Result<Settings, Usage> {
    let name = section.name.get_ref().clone();
    let kind = *section.kind.get_ref();
    check_keys(source, &section, kind)?;
    let missing = |key: &str| at(source, section.kind.span().start, &format!("sink {name} needs `{key}`"));
    let path_of =
        |given: &Option<Spanned<PathBuf>>| given.as_ref().map(|path| directory.join(path.get_ref()));
    let path = path_of(&section.path);
    let is_plain = section.path.is_some() || section.url.as_ref().is_some_and(is_plain);
    let files = Files { ca: &section.ca, certificate: &section.certificate, key: &section.key };
    let tls = files.tls(source, directory, is_plain)?;
    let number = |key: &str, value: &Option<Spanned<i64>>, bounds, otherwise| {
        value.as_ref().map_or(Ok(otherwise), |value| bounded(source, key, value, bounds))
    };
    let to = match kind {
        KindName::File => Kind::File {
            path: path.ok_or_else(|| missing("path"))?,
            rotate_bytes: u64::from(number("rotate_mib", &section.rotate_mib, 1..=65_536, 100)?) << 20,
            keep: number("keep", &section.keep, 0..=1000, 5)?,
        },
        KindName::Stdout => Kind::Stdout,
        KindName::Socket => Kind::Socket { path: path.ok_or_else(|| missing("path"))? },
        KindName::Syslog => match (path, &section.address) {
            (Some(path), None) => Kind::SyslogUnix { path },
            (None, Some(address)) => {
                let (host, port) = host_and_port(address.get_ref()).ok_or_else(|| {
                    let words = "address: neither a name nor an address, such as logs.example.com:6514 or [2001:db8::1]:6514";
                    at(source, address.span().start, words)
                })?;
                Kind::SyslogTls { host, port, tls }
            }
            (None, None) => return Err(missing("address` or `path")),
            (Some(_), Some(address)) => {
                let words = "address: there is a `path` as well; remove one of them";
                return Err(at(source, address.span().start, words));
            }
        },
        KindName::Otlp => {
            let url = section.url.as_ref().ok_or_else(|| missing("url"))?;
            let example = "an OTLP receiver, such as https://collector.example.com:4318/v1/logs";
            receivers::check_url(source, url, example)?;
            let (url, headers) = (url.get_ref().clone(), path_of(&section.headers));
            Kind::Otlp { url, headers, tls, host: bulkhead_host::name() }
        }
    };
    let format = match section.format {
        None | Some(FormatName::Ocsf) => Format::Ocsf,
        Some(FormatName::Bulkhead) => Format::Bulkhead,
    };
    let from = match section.from {
        None | Some(FromName::Beginning) => From::Beginning,
        Some(FromName::Now) => From::Now,
    };
    Ok(Settings { name, format, from, kind: to })
}

/// That there is no key which its kind does not know.
fn check_keys(source: &Source, section: &Section, kind: KindName) -> Result<(), Usage> {
    let given: [(&str, &dyn Given); 9] = [
        ("path", &section.path),
        ("rotate_mib", &section.rotate_mib),
        ("keep", &section.keep),
        ("address", &section.address),
        ("url", &section.url),
        ("headers", &section.headers),
        ("ca", &section.ca),
        ("certificate", &section.certificate),
        ("key", &section.key),
    ];
    receivers::check_keys(source, &given, kind.keys(), &format!("sinks of kind \"{}\"", kind.name()))
}

/// A name or address, and a port if there is one.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest.strip_prefix(':'))
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(SYSLOG_TLS), |port| port.parse().ok().filter(|port| *port != 0))?;
    let is_fit = !host.is_empty() && !host.contains(|of: char| of.is_whitespace() || of == '/');
    is_fit.then(|| (host.to_owned(), port))
}
