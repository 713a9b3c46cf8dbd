//! `[collector]`: who collects this host's event log, and what it reports of itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_policy::source::Source;
use serde::Deserialize;
use toml::Spanned;

use super::file::{at, bounded};
use crate::exit::Usage;

/// Who collects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// The directory where batches are left; none: they go to the fleet's servers.
    pub directory: Option<PathBuf>,
    /// Between two reports where nothing happens.
    pub every: Duration,
}

/// The section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    directory: Option<Spanned<PathBuf>>,
    every_seconds: Option<Spanned<i64>>,
}

/// Checks the section. Relative paths start at `directory`; `has_servers`: the fleet's files come from servers.
pub(super) fn read(
    source: &Source,
    directory: &Path,
    section: Spanned<Section>,
    has_servers: bool,
) -> Result<Collector, Usage> {
    let start = section.span().start;
    let section = section.into_inner();
    if section.directory.is_none() && !has_servers {
        let words = "collector: say by `directory` where batches are left; without it they go to the `servers` of \
                     [fleet], and there are none";
        return Err(at(source, start, words));
    }
    let every = section.every_seconds.as_ref();
    let every = every.map_or(Ok(60), |every| bounded(source, "every_seconds", every, 1..=3600))?;
    Ok(Collector {
        directory: section.directory.map(|path| directory.join(path.into_inner())),
        every: Duration::from_secs(every.into()),
    })
}
