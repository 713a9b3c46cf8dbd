//! One module a command.

pub mod check;
pub mod compile;
pub mod eval;
pub mod explain;
pub mod tunnel;

use crate::cli::{Cli, Command};
use crate::exit::Answer;

/// Runs the command.
pub fn dispatch(cli: Cli) -> anyhow::Result<Answer> {
    match cli.command {
        Command::Check(command) => command.run(&cli.global),
        Command::Explain(command) => command.run(&cli.global),
        Command::Eval(command) => command.run(&cli.global),
        Command::Compile(command) => command.run(&cli.global),
        Command::Tunnel(command) => command.run(),
    }
}
