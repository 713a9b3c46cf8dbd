//! The `bulkhead` binary.

mod cli;
mod client;
mod commands;
mod config;
mod daemon;
mod diagnostics;
mod duration;
mod exit;
mod input;
mod paths;
mod report;
mod tunnel;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    exit::finish(commands::dispatch(cli))
}
