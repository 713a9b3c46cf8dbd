//! What `[[sink]]` and `[[anchor]]` have in common: names, URLs, files of TLS, and keys that not every kind has.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use bulkhead_http::Tls;
use bulkhead_policy::source::Source;
use toml::Spanned;

use super::file::at;
use crate::exit::Usage;

/// Checks tables, each of which has a name that no other has. `what` they are is said where one has.
pub(super) fn each<S, T>(
    source: &Source,
    what: &str,
    sections: Vec<S>,
    name_of: impl Fn(&S) -> Spanned<String>,
    mut read: impl FnMut(S) -> Result<T, Usage>,
) -> Result<Vec<T>, Usage> {
    let mut seen = HashSet::new();
    let one = |section| {
        let given = name_of(&section);
        check_name(source, &given)?;
        let settings = read(section)?;
        let start = given.span().start;
        let name = given.into_inner();
        let words = format!("{what} {name} is there twice; give one of them another name");
        if seen.insert(name) { Ok(settings) } else { Err(at(source, start, &words)) }
    };
    sections.into_iter().map(one).collect()
}

/// A name, which is also one of files and threads.
fn check_name(source: &Source, given: &Spanned<String>) -> Result<(), Usage> {
    let name = given.get_ref();
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_fit) {
        let words = format!("name: '{name}' is not 1 to 64 letters, digits, `-` and `_`");
        return Err(at(source, given.span().start, &words));
    }
    Ok(())
}

/// A key that may be there.
pub(super) trait Given {
    /// Where its value begins.
    fn start(&self) -> Option<usize>;
}

impl<T> Given for Option<Spanned<T>> {
    fn start(&self) -> Option<usize> {
        self.as_ref().map(|value| value.span().start)
    }
}

/// That no key is there which `known` has not. `whose` is whom it is not of.
pub(super) fn check_keys(
    source: &Source,
    given: &[(&str, &dyn Given)],
    known: &[&str],
    whose: &str,
) -> Result<(), Usage> {
    let unfit = given
        .iter()
        .find_map(|(key, value)| Some((key, value.start()?)).filter(|(key, _)| !known.contains(key)));
    unfit.map_or(Ok(()), |(key, start)| Err(at(source, start, &format!("{key}: not of {whose}; remove it"))))
}

/// Whether a URL is one without TLS.
pub(super) fn is_plain(url: &Spanned<String>) -> bool {
    url.get_ref().starts_with("http:")
}

/// That it is a whole URL; `example` says of what, and one.
pub(super) fn check_url(source: &Source, url: &Spanned<String>, example: &str) -> Result<(), Usage> {
    let parsed: Result<axum::http::Uri, _> = url.get_ref().parse();
    let is_fit = parsed.is_ok_and(|uri| {
        // As it is compared later: in small letters.
        let is_http = ["http://", "https://"].iter().any(|scheme| url.get_ref().starts_with(scheme));
        let port = |uri: &axum::http::Uri| {
            let given = uri.authority()?.as_str().rsplit('@').next()?.rsplit_once(':')?.1.to_owned();
            Some(given).filter(|given| !given.ends_with(']'))
        };
        let has_port = port(&uri).is_none_or(|port| port.parse().is_ok_and(|port: u16| port != 0));
        is_http && has_port && uri.host().is_some_and(|host| !host.is_empty())
    });
    let words = || format!("url: not the whole URL of {example}");
    if is_fit { Ok(()) } else { Err(at(source, url.span().start, &words())) }
}

/// Files of TLS, as they are written.
pub(super) struct Files<'s> {
    pub ca: &'s Option<Spanned<PathBuf>>,
    pub certificate: &'s Option<Spanned<PathBuf>>,
    pub key: &'s Option<Spanned<PathBuf>>,
}

impl Files<'_> {
    /// Relative paths start at `directory`. `is_plain`: there is no TLS.
    pub(super) fn tls(&self, source: &Source, directory: &Path, is_plain: bool) -> Result<Tls, Usage> {
        let beside = |given: &Spanned<PathBuf>| directory.join(given.get_ref());
        let identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((beside(certificate), beside(key))),
            (None, None) => None,
            (Some(alone), None) => {
                return Err(at(source, alone.span().start, "certificate: its `key` is missing"));
            }
            (None, Some(alone)) => {
                return Err(at(source, alone.span().start, "key: its `certificate` is missing"));
            }
        };
        let files = self.ca.as_ref().or(self.certificate.as_ref());
        if let Some(files) = files.filter(|_| is_plain) {
            return Err(at(
                source,
                files.span().start,
                "files of TLS, and no TLS; use https: or an `address`",
            ));
        }
        Ok(Tls { ca: self.ca.as_ref().map(beside), identity })
    }
}
