//! The `bulkhead` binary.

mod cli;
mod commands;
mod config;
mod diagnostics;
mod difference;
mod exit;
mod global;
mod input;
mod text;
#[cfg(feature = "agent")]
mod usage;
mod version;

#[cfg(feature = "agent")]
mod client;
#[cfg(feature = "agent")]
mod daemon;
#[cfg(feature = "agent")]
mod doctor;
#[cfg(any(feature = "agent", unix))]
mod duration;
#[cfg(feature = "agent")]
mod exposed;
#[cfg(feature = "agent")]
mod guard;
#[cfg(feature = "agent")]
mod init;
#[cfg(feature = "agent")]
mod owners;
#[cfg(feature = "agent")]
mod paths;
#[cfg(feature = "agent")]
mod session;
#[cfg(feature = "agent")]
mod tls;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    if cli.serves() {
        // What an agent makes is its own from the first moment: directories, pins, files, sockets.
        #[cfg(any(feature = "agent", feature = "tunnel"))]
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    } else {
        // `bulkhead status | head` ends quietly.
        #[cfg(unix)]
        // SAFETY: no other thread runs yet.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL)
        };
    }
    exit::finish(cli.run())
}
