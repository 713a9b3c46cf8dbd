//! `cargo xtask conformance`: TUF's own test suite for clients, on the client of fleets.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cargo::{self, workspace};
use crate::process::run_within;

/// Bound on each step.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// What is not passed, by design.
const EXPECTED: &str = include_str!("expected-failures.txt");

/// Arguments of `conformance`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A checkout of github.com/theupdateframework/tuf-conformance.
    #[arg(value_name = "DIR")]
    suite: PathBuf,
    /// What goes to pytest, after `--`.
    #[arg(last = true)]
    pytest: Vec<String>,
}

/// Builds the client, installs what the suite needs below target, by digests, and runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let suite = fs::canonicalize(&arguments.suite)
        .with_context(|| format!("{} could not be read", arguments.suite.display()))?;
    ensure!(
        suite.join("tuf_conformance/conftest.py").is_file(),
        "{} is no checkout of github.com/theupdateframework/tuf-conformance",
        suite.display()
    );
    ensure!(
        env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .any(|path| path.join("faketime").is_file()),
        "the suite needs faketime: `apt-get install faketime`"
    );
    let made = workspace().join("target/conformance");
    let python = made.join("python");
    if !python.join("bin/pytest").is_file() {
        run_within(LIMIT, Command::new("python3").args(["-m", "venv"]).arg(&python))?;
        let mut install = Command::new(python.join("bin/pip"));
        install.args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "--requirement",
        ]);
        run_within(LIMIT, install.arg(workspace().join("xtask/src/conformance/requirements.txt")))?;
    }
    let mut build = cargo::command();
    // Apart from what is built otherwise: nothing else has this feature.
    build.args(["build", "--locked", "--package", "bulkhead-fleet", "--example", "tuf-client"]);
    build.args(["--features", "conformance", "--target-dir"]).arg(made.join("build"));
    run_within(LIMIT, &mut build)?;
    let client = made.join("build/debug/examples/tuf-client");
    fs::write(client.with_extension("xfails"), EXPECTED)?;
    let mut pytest = Command::new(python.join("bin/pytest"));
    pytest.current_dir(&suite).env("PYTHONPATH", &suite).env("PYTHONDONTWRITEBYTECODE", "1");
    pytest.args(["-p", "no:cacheprovider", "-q", "tuf_conformance", "--entrypoint"]).arg(&client);
    run_within(LIMIT, pytest.args(&arguments.pytest))
}
