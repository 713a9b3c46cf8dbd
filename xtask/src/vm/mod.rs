//! `cargo xtask vm`: what other kernels say of the programs, and how the agent does on them.
//!
//! Debian's kernels are booted in qemu's software emulation. Kernel, modules, this machine's own tools and the job
//! come as one first file system, and the console tells what came of it. Only for `package` there is a disk.

mod archive;
mod choice;
mod image;
mod job;
mod package;
mod qemu;
mod report;
mod root;

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::cargo::workspace;
use crate::setup;
use archive::Archive;
use choice::Wanted;
use job::Job;
use qemu::Guest;
use report::{Expected, Row};
use root::System;

/// Arguments of `vm`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What is run; `verified` on every kernel, then `agent`, if nothing is named.
    jobs: Vec<Job>,
    /// Kernels: a series (`6.12`; the newest of it that Debian has), `newest`, `rt` (the newest with
    /// PREEMPT_RT), or a series with PREEMPT_RT (`6.12-rt`). All that are supported if none is named, 6.12 alone
    /// for `package`.
    #[arg(long = "kernel", value_name = "KERNEL", num_args = 1..)]
    kernels: Vec<Wanted>,
    /// Only these checks of `agent`.
    #[arg(long = "check", value_name = "NAME", num_args = 1..)]
    checks: Vec<String>,
    /// The system that `package` is tried on.
    #[arg(long, value_enum, default_value_t)]
    system: System,
}

/// Boots one kernel after the other. Fails if anything failed, or did not run.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("vm")?;
    setup::ensure_vm()?;
    let jobs =
        if arguments.jobs.is_empty() { vec![Job::Verified, Job::Agent] } else { arguments.jobs.clone() };
    let wanted = if arguments.kernels.is_empty() { Wanted::ALL.to_vec() } else { arguments.kernels.clone() };
    let started = Instant::now();
    let directory = workspace().join("target/vm");
    let runs = directory.join("runs");
    fs::create_dir_all(&runs)?;
    let archive = Archive::open(&directory.join("apt"))?;
    let index = archive.index()?;
    let kernels: Vec<_> = wanted
        .into_iter()
        .map(|wanted| Ok((wanted, choice::choose(&index, wanted)?)))
        .collect::<Result<_>>()?;
    let mut rows = Vec::new();
    for job in jobs {
        let packed = job.pack(&runs, &arguments.checks)?;
        let mut name = format!("{job:?}").to_lowercase();
        let disk = if job == Job::Package {
            setup::ensure_system()?;
            if arguments.system != System::default() {
                name = format!("{name}-{}", arguments.system.name());
            }
            Some(root::prepare(&archive, arguments.system, &directory)?)
        } else {
            None
        };
        for (wanted, kernel) in &kernels {
            if arguments.kernels.is_empty() && !job.is_for(*wanted) {
                continue;
            }
            let image = image::prepare(&archive, kernel, &directory.join("kernels"))?;
            eprintln!("vm: {name} on {} ({})", kernel.release, kernel.upstream());
            let files = [&*image.modules, &*packed.files];
            let machine = |name| Guest { kernel: &image.kernel, files, disk: disk.as_deref(), name };
            let run = |(guest, expected): &(&'static str, Expected)| -> Result<Row> {
                let name = if packed.guests.len() > 1 { format!("{name}-{guest}") } else { name.clone() };
                let log = runs.join(format!("{name}-{wanted}.log"));
                let ran = qemu::run(machine(guest), packed.limit, &log)?;
                let row = Row::new(name, wanted.to_string(), kernel.release.clone(), &ran, expected);
                if !row.result.wrong.is_empty() {
                    eprintln!("vm: {} on {wanted}: see {}", row.job, log.display());
                    row.result.wrong.iter().for_each(|line| eprintln!("    {line}"));
                }
                Ok(row)
            };
            let ran: Vec<_> = std::thread::scope(|scope| {
                let running = packed.guests.iter().map(|guest| scope.spawn(|| run(guest)));
                let running: Vec<_> = running.collect();
                running.into_iter().map(|guest| guest.join().expect("a guest's thread panicked")).collect()
            });
            for row in ran {
                let row = row?;
                eprintln!("{}\n{}", report::head(), row.line());
                rows.push(row);
            }
        }
    }
    println!("{}", report::head());
    for row in &rows {
        println!("{}", row.line());
    }
    println!("{} boots with a job in {} s", rows.len(), started.elapsed().as_secs());
    let failed = rows.iter().filter(|row| !row.result.wrong.is_empty()).count();
    ensure!(
        failed == 0,
        "{failed} of {} failed; what was wrong is above, the consoles in {}",
        rows.len(),
        runs.display()
    );
    Ok(())
}

/// What a command prints; an error with its messages if it fails.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("`{name}` could not be started"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}): {}", output.status, said.trim());
    String::from_utf8(output.stdout).with_context(|| format!("`{name}` printed what is not UTF-8"))
}
