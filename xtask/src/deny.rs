//! `cargo xtask deny`: the dependencies, checked by deny.toml.

use std::time::Duration;

use anyhow::Result;

use crate::process::run_within;
use crate::{cargo, setup};

/// Bound on the check; it compiles nothing.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Arguments of `deny`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Check for known vulnerabilities, too. Fetches the RustSec database from GitHub.
    #[arg(long)]
    advisories: bool,
}

/// Installs cargo-deny where it is missing, and runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure_deny()?;
    let mut deny = cargo::command();
    deny.args(["deny", "--locked", "check", "licenses", "bans", "sources"]);
    if arguments.advisories {
        deny.arg("advisories");
    }
    run_within(LIMIT, &mut deny)
}
