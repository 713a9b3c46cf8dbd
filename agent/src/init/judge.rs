//! Whether a draft is what the agent would take.

use std::path::Path;

use bulkhead_policy::Dialect;
use bulkhead_policy::source::Source;

use super::Draft;
use crate::config::Config;
use crate::daemon::CompileOptions;
use crate::daemon::files::Files;
use crate::daemon::state::inputs::Inputs;

/// Checks and compiles a draft as the agent does when it starts.
///
/// # Errors
/// What is wrong with it.
pub fn judge(draft: &Draft, dialect: Dialect, now: u64) -> anyhow::Result<()> {
    let config = Config::parse(Path::new("agent.toml"), &draft.config)?;
    let options = CompileOptions::new(&config, draft.node.clone(), dialect);
    let files = Files::new(
        Source::new("policy.hujson", &draft.policy),
        Source::new("inventory.json", &draft.inventory),
    );
    match Inputs::check(files, config.mode, &options, now) {
        Ok(_) => Ok(()),
        Err(refused) => Err(anyhow::anyhow!(
            "the draft for this host is refused; write the files by hand, and report this:\n{}",
            refused.text()
        )),
    }
}
