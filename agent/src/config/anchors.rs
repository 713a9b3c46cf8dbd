//! The `[[anchor]]` tables: where checkpoints of the event log go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_policy::source::Source;
use bulkhead_sinks::{AnchorKind, AnchorSettings};
use bulkhead_tlog::VerifierKey;
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
    path: Option<Spanned<PathBuf>>,
    url: Option<Spanned<String>>,
    witness_key: Option<Spanned<String>>,
    headers: Option<Spanned<PathBuf>>,
    ca: Option<Spanned<PathBuf>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Directory,
    Http,
    Witness,
}

impl KindName {
    const fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Http => "http",
            Self::Witness => "witness",
        }
    }

    /// The keys that it knows besides those of every kind.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Directory => &["path"],
            Self::Http => &["url", "headers", "ca", "certificate", "key"],
            Self::Witness => &["url", "witness_key", "headers", "ca", "certificate", "key"],
        }
    }
}

/// Checks the tables. Relative paths start at `directory`.
pub(super) fn read(
    source: &Source,
    directory: &Path,
    sections: Vec<Section>,
) -> Result<Vec<AnchorSettings>, Usage> {
    let name = |section: &Section| section.name.clone();
    let mut witnesses: Vec<VerifierKey> = Vec::new();
    receivers::each(source, "anchor", sections, name, |section| {
        let settings = settings(source, directory, &section)?;
        if let (AnchorKind::Witness { key, .. }, Some(given)) = (&settings.kind, &section.witness_key) {
            // Its last note is kept by its key.
            if witnesses.contains(key) {
                let words = "witness_key: another anchor has this witness; remove one of them";
                return Err(at(source, given.span().start, words));
            }
            witnesses.push((**key).clone());
        }
        Ok(settings)
    })
}

fn settings(source: &Source, directory: &Path, section: &Section) -> Result<AnchorSettings, Usage> {
    let name = section.name.get_ref().clone();
    let kind = *section.kind.get_ref();
    check_keys(source, section, kind)?;
    let missing = |key: &str| at(source, section.kind.span().start, &format!("anchor {name} needs `{key}`"));
    let is_plain = section.url.as_ref().is_some_and(is_plain);
    let files = Files { ca: &section.ca, certificate: &section.certificate, key: &section.key };
    let tls = files.tls(source, directory, is_plain)?;
    let headers = section.headers.as_ref().map(|path| directory.join(path.get_ref()));
    let url = |example| {
        let url = section.url.as_ref().ok_or_else(|| missing("url"))?;
        receivers::check_url(source, url, example)?;
        Ok(url.get_ref().clone())
    };
    let every = section.every_seconds.as_ref();
    let every = every.map_or(Ok(300), |value| bounded(source, "every_seconds", value, 5..=86_400))?;
    let kind = match kind {
        KindName::Directory => {
            let path = section.path.as_ref().ok_or_else(|| missing("path"))?;
            if path.get_ref().as_os_str().is_empty() {
                return Err(at(source, path.span().start, "path: is empty; name a directory"));
            }
            AnchorKind::Directory { path: directory.join(path.get_ref()) }
        }
        KindName::Http => {
            let url = url("a receiver, such as https://anchors.example.com/bulkhead")?;
            AnchorKind::Http { url, headers, tls }
        }
        KindName::Witness => {
            let url = url("a witness, such as https://witness.example.com")?;
            if let Some(given) = section.url.as_ref().filter(|_| url.contains(['?', '#'])) {
                let words =
                    "url: that of a witness has neither `?` nor `#`: `/add-checkpoint` comes behind it";
                return Err(at(source, given.span().start, words));
            }
            let key = section.witness_key.as_ref().ok_or_else(|| missing("witness_key"))?;
            AnchorKind::Witness { url, key: Box::new(witness_key(source, key)?), headers, tls }
        }
    };
    Ok(AnchorSettings { name, every: Duration::from_secs(every.into()), kind })
}

/// The key of a witness, whose signatures have a time.
fn witness_key(source: &Source, given: &Spanned<String>) -> Result<VerifierKey, Usage> {
    let key = VerifierKey::parse(given.get_ref()).and_then(|key| key.check_witness().map(|()| key));
    key.map_err(|error| at(source, given.span().start, &format!("witness_key: {error}")))
}

/// That there is no key which its kind does not know.
fn check_keys(source: &Source, section: &Section, kind: KindName) -> Result<(), Usage> {
    let given: [(&str, &dyn Given); 7] = [
        ("path", &section.path),
        ("url", &section.url),
        ("witness_key", &section.witness_key),
        ("headers", &section.headers),
        ("ca", &section.ca),
        ("certificate", &section.certificate),
        ("key", &section.key),
    ];
    receivers::check_keys(source, &given, kind.keys(), &format!("anchors of kind \"{}\"", kind.name()))
}
