//! `bulkhead attach`: an interface that is just coming up, before its first packet.

use std::time::{Duration, Instant};

use bulkhead_api::request::AttachAnswer;

use crate::cli::Global;
use crate::client;
use crate::exit::{Answer, Usage};
use crate::paths::Paths;

/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(100);

/// Asks the agent to enforce on one of its interfaces now. For wg-quick: `PostUp = bulkhead attach %i --wait`.
/// Ends with 0 once the interface is enforced, with 3 if it is not.
#[derive(Debug, clap::Args)]
pub struct Attach {
    /// The interface, one of agent.toml's.
    #[arg(value_name = "IFACE")]
    interface: String,
    /// Wait until the interface is there and enforced, and the agent runs; at most so long.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=3600),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30"
    )]
    wait: Option<u64>,
}

impl Attach {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        let paths = Paths::of(&global.instance)?;
        let deadline = Instant::now() + Duration::from_secs(self.wait.unwrap_or(0));
        loop {
            let problem = match self.ask(&paths) {
                Ok(AttachAnswer { attached: Some(attached), generation }) => {
                    if global.json {
                        println!("{}", serde_json::json!({ "attached": attached, "generation": generation }));
                    } else {
                        let hooks: Vec<_> = attached.hooks.iter().map(|hook| hook.name()).collect();
                        println!(
                            "{} (index {}): {}, generation {generation}",
                            attached.interface,
                            attached.index,
                            hooks.join(", ")
                        );
                    }
                    return Ok(Answer::Yes);
                }
                Ok(AttachAnswer { attached: None, .. }) => anyhow::anyhow!(
                    "interface {} is not there; make it, or wait for it by --wait",
                    self.interface
                ),
                Err(error) if error.is::<Usage>() => return Err(error),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                return Err(match self.wait {
                    Some(seconds) => problem.context(format!("not enforced after {seconds} s")),
                    None => problem,
                });
            }
            std::thread::sleep(INTERVAL);
        }
    }

    fn ask(&self, paths: &Paths) -> anyhow::Result<AttachAnswer> {
        client::command(paths, "/attach", &self.interface)
    }
}
