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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bulkhead_api::tls::Probing;

    use super::super::file;

    #[test]
    fn paths_start_at_the_files_directory_and_bounds_are_held() {
        let read = |text: &str| file::parse(Path::new("/etc/b/agent.toml"), text);
        let tls = read("").map_err(|error| error.0).unwrap().tls;
        assert_eq!((tls.probing, tls.probe_seconds, tls.files.len()), (Probing::Rules, 900, 0));
        let text = "[tls]\nprobe = \"all\"\nprobe_seconds = 60\nfiles = [\"a.pem\", \"/x/b.pem\"]\nca = \"ca.pem\"\n";
        let tls = read(text).map_err(|error| error.0).unwrap().tls;
        assert_eq!((tls.probing, tls.probe_seconds), (Probing::All, 60));
        assert_eq!(tls.files, [Path::new("/etc/b/a.pem"), Path::new("/x/b.pem")]);
        assert_eq!(tls.ca.as_deref(), Some(Path::new("/etc/b/ca.pem")));
        for (wrong, words) in [
            ("probe = \"some\"", "agent.toml:2:9: unknown variant `some`"),
            ("probe_seconds = 9", "agent.toml:2:17: probe_seconds: 9 is not between 10 and 86400"),
            ("files = [\"a\", \"a\"]", "agent.toml:2:15: files: /etc/b/a is there twice"),
            ("files = [\"\"]", "agent.toml:2:10: files: an empty path"),
            ("file = \"a\"", "unknown field `file`"),
        ] {
            let error = read(&format!("[tls]\n{wrong}\n")).map(|_| ()).unwrap_err().0;
            assert!(error.contains(words), "{error}");
        }
        let many: Vec<String> = (0..257).map(|number| format!("\"{number}\"")).collect();
        let error = read(&format!("[tls]\nfiles = [{}]\n", many.join(","))).map(|_| ()).unwrap_err().0;
        assert!(error.contains("more than 256"), "{error}");
    }
}
