//! `cargo xtask fuzz`: libFuzzer on the targets of the crate `fuzz`.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::run_within;
use crate::{cargo, setup};

/// Bound on compiling the targets, and on what a run may take beyond its time.
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Seconds; an input that takes longer is a finding. Time on a busy machine counts, so they are many.
const HANG: &str = "-timeout=60";

/// MiB; more is a finding.
const MEMORY: &str = "-rss_limit_mb=2048";

/// Arguments of `fuzz`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to feed; all of them, one after the other, if none is named.
    target: Option<Target>,
    /// How long each is fed.
    #[arg(long, default_value_t = 600, value_name = "N")]
    seconds: u64,
}

/// What is fed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Target {
    /// Packets, through the whole decision.
    Parser,
    /// A policy's text.
    Policy,
    /// An inventory's text, and what inventories are imported from.
    Inventory,
}

impl Target {
    const ALL: [Self; 3] = [Self::Parser, Self::Policy, Self::Inventory];

    fn name(self) -> &'static str {
        match self {
            Self::Parser => "parser",
            Self::Policy => "policy",
            Self::Inventory => "inventory",
        }
    }

    /// The packet accessor is the only unsafe code that is fed; the compiler has none.
    fn sanitizer(self) -> &'static str {
        match self {
            Self::Parser => "address",
            Self::Policy | Self::Inventory => "none",
        }
    }

    /// The longest input, bytes.
    fn longest(self) -> &'static str {
        match self {
            Self::Parser => "-max_len=4096",
            Self::Policy | Self::Inventory => "-max_len=8192",
        }
    }
}

/// Feeds the targets. New inputs are kept in the target directory and used by the next run;
/// those of findings are in `fuzz/artifacts`, and belong into the committed corpus once fixed.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure_fuzzing()?;
    for target in arguments.target.map_or(Target::ALL.to_vec(), |target| vec![target]) {
        feed(target, arguments.seconds)?;
    }
    Ok(())
}

fn feed(target: Target, seconds: u64) -> Result<()> {
    let name = target.name();
    let kept = cargo::workspace().join("target/fuzz/corpus").join(name);
    fs::create_dir_all(&kept).with_context(|| format!("create {kept:?}"))?;
    let mut fuzz = cargo::command();
    // The instrumentation has unstable names; the compiler is the stable one.
    fuzz.env("RUSTC_BOOTSTRAP", "1");
    fuzz.args(["fuzz", "run", "--fuzz-dir", "fuzz", "--features", "libfuzzer"]);
    fuzz.args(["--target-dir", "target/fuzz", "--sanitizer", target.sanitizer(), name]);
    fuzz.arg(kept).arg(cargo::workspace().join("fuzz/corpus").join(name));
    fuzz.args(["--", HANG, MEMORY, target.longest()]).arg(format!("-max_total_time={seconds}"));
    run_within(BUILD_LIMIT + Duration::from_secs(seconds), &mut fuzz).with_context(|| {
        format!(
            "{name}: a finding, unless cargo says something else above; its input is in fuzz/artifacts/{name}"
        )
    })
}
