//! The command line.

use clap::{Parser, Subcommand};

use crate::commands;

/// Least privilege between hosts, enforced by the kernel on WireGuard and exchange-facing interfaces.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// Print JSON: one object, or one object a line where the answer is a stream.
    #[arg(long, global = true)]
    pub json: bool,
    /// Sets this agent's pins, socket and state apart from other agents' on this machine.
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub instance: String,
    /// The policy's language: bulkhead, or tailscale (refuses our extensions).
    #[arg(long, global = true, default_value = "bulkhead", value_name = "NAME")]
    pub dialect: bulkhead_policy::Dialect,
}

/// The commands; each has a module of its own.
#[derive(Debug, Subcommand)]
pub enum Command {
    Check(commands::check::Check),
    Explain(commands::explain::Explain),
    Eval(commands::eval::Eval),
    Compile(commands::compile::Compile),
    Diff(commands::diff::Diff),
    Inventory(commands::inventory::Inventory),
    Run(commands::run::Run),
    Status(commands::status::Status),
    Watch(commands::watch::Watch),
    Apply(commands::apply::Apply),
    Confirm(commands::apply::Confirm),
    Rollback(commands::apply::Rollback),
    Stage(commands::stage::Stage),
    Unstage(commands::stage::Unstage),
    Promote(commands::stage::Promote),
    Quarantine(commands::quarantine::Quarantine),
    Release(commands::quarantine::Release),
    Attach(commands::attach::Attach),
    Detach(commands::detach::Detach),
    Tunnel(commands::tunnel::Tunnel),
}
