//! `bulkhead fleet`: one policy and one inventory for many hosts. One module a subcommand.

mod init;

use clap::Subcommand;

use crate::exit::Answer;
use crate::global::Global;

/// Sign, publish and follow one policy for many hosts.
#[derive(Debug, clap::Args)]
pub struct Fleet {
    #[command(subcommand)]
    command: FleetCommand,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
enum FleetCommand {
    Init(init::Init),
}

impl Fleet {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        match self.command {
            FleetCommand::Init(command) => command.run(global),
        }
    }
}
