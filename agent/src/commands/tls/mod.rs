//! `bulkhead tls`: which service ports begin as TLS, and what they present.

pub mod coverage;
mod scan;
mod table;

use crate::exit::Answer;
use crate::global::Global;

/// Show which service ports begin as TLS, and what they present.
///
/// What a port begins with says nothing of what follows, and what a certificate says is presented: nobody vouches for
/// it.
#[derive(Debug, clap::Args)]
pub struct Tls {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Coverage(coverage::TlsCoverage),
    Scan(scan::Scan),
}

impl Tls {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        match &self.command {
            Command::Coverage(command) => command.run(global),
            Command::Scan(command) => command.run(global),
        }
    }
}
