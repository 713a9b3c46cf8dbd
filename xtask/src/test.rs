//! `cargo xtask test`: every test, none skipped.

use std::time::Duration;

use anyhow::Result;

use crate::process::run_within;
use crate::{cargo, setup};

/// Bound on compiling everything, on the slowest machine the project knows (two cores).
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Bound on running the tests.
const TEST_LIMIT: Duration = Duration::from_secs(32 * 60);

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Passed on to `cargo test`: a filter, `-p PACKAGE`, or `-- --nocapture`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    cargo: Vec<String>,
}

/// Tests at the same time: twice as many as there are cores, since the long ones wait more than they compute: three of
/// them take 40 % of two cores.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get() * 2)
}

/// Sets the machine up, compiles, runs. The tests on the kernel fail without root, so that is asked first.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("test")?;
    setup::ensure()?;
    // The end-to-end tests start the `bulkhead` binary. Cargo builds it for the agent's own tests, and with the
    // features of all tests; where some are picked these may not be among them.
    if !arguments.cargo.is_empty() {
        run_within(BUILD_LIMIT, cargo::command().args(["build", "--package", "bulkhead"]))?;
    }
    let test = |flag: &str| {
        let mut command = cargo::command();
        command.args(["test", flag]).args(&arguments.cargo);
        command
    };
    run_within(BUILD_LIMIT, &mut test("--no-run"))?;
    let mut tests = test("--no-fail-fast");
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        tests.env("RUST_TEST_THREADS", threads().to_string());
    }
    run_within(TEST_LIMIT, &mut tests)
}
