//! `bulkhead guard`: managed interfaces closed while the host starts.

use std::path::PathBuf;

use crate::config::Config;
use crate::daemon::fallback::closed::{self, Closed};
use crate::exit::Answer;
use crate::global::Global;
use crate::guard::Nft;
use crate::paths::Paths;

/// Close managed interfaces until the agent enforces there.
///
/// For a service that starts before networks do. It puts the nftables guard in place for what was enforced
/// before the host stopped, and changes nothing where a guard is there or nothing was enforced. Where the
/// record of that cannot be read, every managed interface is closed, and the exit code is 1.
#[derive(Debug, clap::Args)]
pub struct Guard {
    /// The configuration.
    ///
    /// The default instance reads /etc/bulkhead/agent.toml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Guard {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let paths = Paths::of(&global.instance)?;
        let config = match Config::find(self.config.as_deref(), paths.is_default()) {
            Ok(config) => config,
            Err(error) => {
                eprintln!("bulkhead: {error}; closing what the last agent enforced");
                None
            }
        };
        let closed = closed::close(&Nft, &global.instance, &paths, config.as_ref())?;
        let mut answer = Answer::Yes;
        let (names, why) = match closed {
            Closed::Unread(names, problem) => {
                eprintln!(
                    "bulkhead: what was enforced is not known, so every managed interface is closed: {problem}"
                );
                answer = Answer::No;
                (names, "until the agent enforces there")
            }
            Closed::Names(names) => (names, "until the agent enforces there"),
            Closed::Already => (Default::default(), "the guard is there already"),
            Closed::Nothing(why) => (Default::default(), why),
        };
        if global.json {
            println!("{}", serde_json::json!({ "closed": names, "detail": why }));
        } else if names.is_empty() {
            println!("nothing to close: {why}");
        } else {
            println!("closed {why}: {}", names.into_iter().collect::<Vec<_>>().join(", "));
        }
        Ok(answer)
    }
}
