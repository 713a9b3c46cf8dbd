//! The `bulkhead` binary.

mod cli;
mod commands;
mod exit;
mod tunnel;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    exit::finish(commands::dispatch(cli))
}
