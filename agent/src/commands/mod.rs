//! One module a command.

pub mod apply;
pub mod attach;
mod budget;
pub mod check;
pub mod compile;
pub mod detach;
pub mod diff;
pub mod eval;
pub mod explain;
pub mod inventory;
mod network;
pub mod quarantine;
pub mod run;
pub mod stage;
pub mod status;
pub mod tunnel;
pub mod watch;
mod who;

use crate::cli::{Cli, Command};
use crate::exit::Answer;

/// Runs the command.
pub fn dispatch(cli: Cli) -> anyhow::Result<Answer> {
    match cli.command {
        Command::Check(command) => command.run(&cli.global),
        Command::Explain(command) => command.run(&cli.global),
        Command::Eval(command) => command.run(&cli.global),
        Command::Compile(command) => command.run(&cli.global),
        Command::Diff(command) => command.run(&cli.global),
        Command::Inventory(command) => command.run(&cli.global),
        Command::Run(command) => command.run(&cli.global),
        Command::Status(command) => command.run(&cli.global),
        Command::Watch(command) => command.run(&cli.global),
        Command::Apply(command) => command.run(&cli.global),
        Command::Confirm(command) => command.run(&cli.global),
        Command::Rollback(command) => command.run(&cli.global),
        Command::Stage(command) => command.run(&cli.global),
        Command::Unstage(command) => command.run(&cli.global),
        Command::Promote(command) => command.run(&cli.global),
        Command::Quarantine(command) => command.run(&cli.global),
        Command::Release(command) => command.run(&cli.global),
        Command::Attach(command) => command.run(&cli.global),
        Command::Detach(command) => command.run(&cli.global),
        Command::Tunnel(command) => command.run(),
    }
}
