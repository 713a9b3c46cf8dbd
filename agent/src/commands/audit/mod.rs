//! `bulkhead audit`: the event log as evidence.

mod balance;
mod coverage;
mod keys;
mod live;
mod proof;
mod show;
pub mod source;
#[cfg(test)]
mod tests;
mod verify;

use bulkhead_tlog::Error;

use crate::exit::{Answer, tell};
use crate::global::Global;

/// Read and verify the event log as evidence.
///
/// From the log on disk, with or without an agent, or from a copy of it (`--log`).
#[derive(Debug, clap::Args)]
pub struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Show(Box<show::Show>),
    Verify(verify::Verify),
    Proof(proof::Proof),
    Balance(balance::AuditBalance),
    Coverage(coverage::AuditCoverage),
    Live(live::Live),
}

impl Audit {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        let answer = match self.command {
            Command::Show(command) => command.run(global),
            Command::Verify(command) => command.run(global),
            Command::Proof(command) => command.run(global),
            Command::Balance(command) => command.run(global),
            Command::Coverage(command) => command.run(global),
            Command::Live(command) => command.run(global),
        };
        match answer {
            // A log that is not to be believed is an answer; that it cannot be read is none.
            Err(error) if error.downcast_ref::<Error>().is_some_and(Error::is_of_the_log) => {
                tell(&error);
                Ok(Answer::No)
            }
            answer => answer,
        }
    }
}
