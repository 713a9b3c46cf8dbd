//! `cargo xtask bench`: measures Bulkhead beside what one would use instead.
//!
//! Only starts it: the measuring is the crate `bench/`, which needs the agent's library.

use std::time::Duration;

use anyhow::Result;

use crate::cargo::{self, build_agent};
use crate::process::run_within;
use crate::setup;

/// Bound on compiling, on the slowest machine the project knows (two cores).
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Bound on measuring everything.
const RUN_LIMIT: Duration = Duration::from_secs(3 * 60 * 60);

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Groups to measure, and flags: --quick, --check, --json FILE, --html FILE, --markdown FILE;
    /// `-- --help` tells all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "GROUP|FLAG")]
    bench: Vec<String>,
}

/// Sets the machine up, builds agent and bench as they ship, measures.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("bench")?;
    setup::ensure_bench()?;
    let agent = build_agent("release")?;
    let bench = |verb: &str| {
        let mut command = cargo::command();
        command.args([verb, "--release", "--package", "bulkhead-bench"]);
        command
    };
    run_within(BUILD_LIMIT, &mut bench("build"))?;
    let mut command = bench("run");
    // Files are named from where one stands.
    command.current_dir(std::env::current_dir()?).arg("--manifest-path");
    command
        .arg(cargo::workspace().join("Cargo.toml"))
        .args(["--quiet", "--", "--bulkhead"])
        .arg(agent.binary)
        .args(&arguments.bench);
    run_within(RUN_LIMIT, &mut command)
}
