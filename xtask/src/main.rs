//! The project's own commands. Each has a module of its own.

mod bench;
mod build;
mod cargo;
mod conformance;
mod demo;
mod deny;
mod fuzz;
mod openapi;
mod package;
mod process;
mod setup;
mod soak;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Bulkhead's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this machine able to build and test everything; silent when nothing is missing.
    Setup,
    /// Measure Bulkhead beside what one would use instead. Needs root.
    #[command(disable_help_flag = true)]
    Bench(bench::Arguments),
    /// Build the agent, optimised, with the BPF program embedded.
    Build(build::Arguments),
    /// Run the test suite of The Update Framework for clients on the client of fleets.
    Conformance(conformance::Arguments),
    /// Show the trading firm's policy enforced on real traffic between network namespaces. Needs root.
    Demo(demo::Arguments),
    /// Check the dependencies' licences, versions and sources by deny.toml.
    Deny(deny::Arguments),
    /// Write the OpenAPI document of the agent's socket, docs/reference/openapi.json.
    Openapi,
    /// Build a .deb, an .rpm and an archive of the static agent, below target/package.
    Package(package::Arguments),
    /// Run every test, those on the kernel and in network namespaces included. Needs root.
    Test(test::Arguments),
    /// Prove what takes long: swaps and kills under traffic, floods of flows, packets by the million. Needs root.
    Soak(soak::Arguments),
    /// Boot other kernels in qemu and load, attach and use the programs there. Needs root.
    Vm(vm::Arguments),
    /// Run libFuzzer on the packet parser, the policy and the inventory.
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup => setup::ensure(),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Conformance(arguments) => conformance::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Deny(arguments) => deny::run(&arguments),
        Command::Openapi => openapi::run(),
        Command::Package(arguments) => package::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Vm(arguments) => vm::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
