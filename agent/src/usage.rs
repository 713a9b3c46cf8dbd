//! What was observed, from the history of one host or more, beside a policy: for `bulkhead drift`,
//! `suggest` and `review`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bulkhead_history::answer::{OfHost, Question};
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::source::Source;

use crate::daemon::history::FILE;
use crate::daemon::store::Store;
use crate::diagnostics;
use crate::exit::Usage;
use crate::global::Global;
use crate::input;
use crate::paths::Paths;

/// What is asked about, and whose history answers.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// The policy; that which is enforced here unless named.
    #[arg(value_name = "POLICY", requires = "inventory")]
    policy: Option<PathBuf>,
    /// The inventory; that which is enforced here unless named.
    #[arg(long, value_name = "FILE", requires = "policy")]
    inventory: Option<PathBuf>,
    /// A host's history; may be repeated. This host's unless named.
    ///
    /// Each host sees its own conversations alone: name those of all hosts of a rule to learn of it as a whole.
    #[arg(long = "history", value_name = "FILE")]
    histories: Vec<PathBuf>,
    /// Since when, such as 180d; until now.
    #[arg(long, value_name = "TIME", default_value = "180d", value_parser = ago)]
    since: u64,
}

fn ago(text: &str) -> Result<u64, String> {
    crate::duration::within(text, 3660)
}

impl Asked {
    /// Whether it is about what is enforced here; else files were named.
    pub const fn is_enforced(&self) -> bool {
        self.policy.is_none()
    }

    /// Reads everything, at a time (s since the Unix epoch). `None` if the policy has an error, which has been printed.
    ///
    /// # Errors
    /// A file that is not there or cannot be read.
    pub fn read(&self, global: &Global, now: u64) -> anyhow::Result<Option<Question>> {
        let paths = Paths::of(&global.instance)?;
        let [policy, inventory] = match self.policy.as_deref().zip(self.inventory.as_deref()) {
            Some((policy, inventory)) => [input::read(policy)?, input::read(inventory)?],
            None => enforced(&paths.state)?,
        };
        let loaded =
            Loaded::new(policy, Some(inventory), &Scope { dialect: global.dialect, ..Scope::default() });
        if loaded.findings.has_errors() {
            diagnostics::print(&loaded.findings, &loaded.sources, global.json);
            return Ok(None);
        }
        let histories = match self.histories.as_slice() {
            [] => vec![paths.state.join(FILE)],
            named => named.to_vec(),
        };
        let since = now.saturating_sub(self.since);
        let hosts = histories.iter().map(|path| of_host(path, since, now)).collect::<anyhow::Result<_>>()?;
        Ok(Some(Question { loaded, hosts, since, now }))
    }
}

/// What is enforced here, as it was kept.
fn enforced(state: &Path) -> anyhow::Result<[Source; 2]> {
    let store = Store::new(state);
    let enforced = store.ledger()?.enforced;
    let (files, _) = store
        .inputs_of(enforced)
        .ok_or_else(|| Usage("no policy is enforced here; name one: POLICY --inventory FILE".to_owned()))?;
    Ok([files.policy, files.inventory])
}

fn of_host(path: &Path, since: u64, now: u64) -> anyhow::Result<OfHost> {
    if !path.exists() {
        let words =
            "there is no history; an agent with `[history]` enabled keeps one from its first minute on";
        return Err(Usage(format!("{}: {words}", path.display())).into());
    }
    let what =
        || format!("reading {}; as root, or from a copy (`sqlite3 {0} '.backup FILE'`)", path.display());
    OfHost::read(path, since, now).with_context(what)
}
