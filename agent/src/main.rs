//! The `bulkhead` binary.

mod cli;
mod client;
mod commands;
mod config;
mod daemon;
mod diagnostics;
mod duration;
mod exit;
mod guard;
mod input;
mod paths;
mod text;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    if !matches!(cli.command, cli::Command::Run(_) | cli::Command::Tunnel(_)) {
        // `bulkhead status | head` ends quietly.
        // SAFETY: no other thread runs yet.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    } else {
        // What an agent makes is its own from the first moment: directories, pins, files, sockets.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    }
    exit::finish(commands::dispatch(cli))
}
