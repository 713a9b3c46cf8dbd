//! Measures Bulkhead beside what one would use instead, in one run on one machine.
//!
//! `cargo xtask bench` builds and runs this. Every figure is the median of interleaved rounds,
//! with its spread, its baseline of the same run and the ratio to it, and the count that proves
//! that packets came where they were measured; what is not to be relied on is called so.

mod agent;
mod figure;
mod fleet;
mod groups;
mod machine;
mod placement;
mod report;
mod requirements;
mod stage;
mod stats;
mod traffic;
mod wire;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use figure::Report;
use groups::{Effort, Group};
use machine::Machine;

/// What is asked for.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// What to measure; none: everything.
    groups: Vec<Group>,
    /// Few and short rounds: good for a look, not for a claim.
    #[arg(long)]
    quick: bool,
    /// The `bulkhead` binary.
    #[arg(long, value_name = "FILE")]
    bulkhead: PathBuf,
    /// Write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one page with plots that needs nothing but itself.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the page docs/internals/performance.md.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Print what must hold, and exit 1 where it does not.
    #[arg(long)]
    check: bool,
}

fn run(arguments: &Arguments) -> Result<bool> {
    ensure!(rustix::process::geteuid().is_root(), "BPF programs and network namespaces need root");
    let started = OffsetDateTime::now_utc().format(&Rfc3339)?;
    let mut report = Report::new(Machine::here(), started, arguments.quick);
    let effort = Effort { quick: arguments.quick, bulkhead: arguments.bulkhead.clone() };
    let all = <Group as clap::ValueEnum>::value_variants();
    for group in if arguments.groups.is_empty() { all } else { &arguments.groups } {
        eprintln!("bench: {}", group.name());
        group.run(&effort, &mut report)?;
    }
    report::text::print(&report);
    let outcomes = requirements::outcomes(&report);
    if arguments.check || arguments.groups.is_empty() {
        report::text::print_outcomes(&outcomes);
    }
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> Result<String>| -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        std::fs::write(path, text()?).with_context(|| format!("write {}", path.display()))
    };
    write(&arguments.json, &|| Ok(serde_json::to_string_pretty(&report)?))?;
    write(&arguments.html, &|| report::html::page(&report))?;
    write(&arguments.markdown, &|| Ok(report::markdown::page(&report)))?;
    Ok(!arguments.check || requirements::hold(&outcomes, &arguments.groups))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
