//! One module a command.

pub mod tunnel;

use crate::cli::{Cli, Command};
use crate::exit::Answer;

/// Runs the command.
pub fn dispatch(cli: Cli) -> anyhow::Result<Answer> {
    match cli.command {
        Command::Tunnel(command) => command.run(),
    }
}
