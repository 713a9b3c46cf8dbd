//! The `[tls]` table: which service ports are probed, and which files of certificates are watched.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bulkhead_api::tls::Probing;
use bulkhead_policy::source::Source;
use serde::Deserialize;
use toml::Spanned;

use super::file::{at, bounded};
use crate::exit::Usage;

/// What is looked at of TLS on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Which ports are probed.
    pub probing: Probing,
    /// Seconds between two rounds of probes.
    pub probe_seconds: u32,
    /// Files of certificates, PEM.
    pub files: Vec<PathBuf>,
    /// Certificates of the authorities that chains are to lead to; none: the system's.
    pub ca: Option<PathBuf>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { probing: Probing::default(), probe_seconds: 900, files: Vec::new(), ca: None }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    probe: Probing,
    probe_seconds: Option<Spanned<i64>>,
    files: Vec<Spanned<PathBuf>>,
    ca: Option<PathBuf>,
}

/// Up to a day. Each probe is a line in the log of many a service.
const PROBE_SECONDS: RangeInclusive<i64> = 10..=24 * 60 * 60;

/// Files that are read.
const FILES: usize = 256;

impl Section {
    /// What it says. Relative paths start at `directory`.
    pub(super) fn read(self, source: &Source, directory: &Path) -> Result<Tls, Usage> {
        let mut tls = Tls { probing: self.probe, ca: self.ca.map(|ca| directory.join(ca)), ..Tls::default() };
        if let Some(seconds) = &self.probe_seconds {
            tls.probe_seconds = bounded(source, "probe_seconds", seconds, PROBE_SECONDS)?;
        }
        for file in &self.files {
            let wrong = |words: &str| Err(at(source, file.span().start, words));
            let path = directory.join(file.get_ref());
            if file.get_ref().as_os_str().is_empty() {
                return wrong("files: an empty path names no file");
            }
            if tls.files.contains(&path) {
                return wrong(&format!("files: {} is there twice; remove one of them", path.display()));
            }
            if tls.files.len() == FILES {
                return wrong(&format!("files: more than {FILES}; name fewer"));
            }
            tls.files.push(path);
        }
        Ok(tls)
    }
}
