//! `bulkhead run`: the agent in the foreground.

use bulkhead_compiler::compile::{Limits, compile};

use crate::cli::Global;
use crate::daemon::{self, Plan};
use crate::exit::{Answer, Usage};
use crate::input::{self, Files};
use crate::paths::Paths;

/// Enforces a policy on interfaces, and tells of every drop. Enforcement goes on when the
/// agent ends; `bulkhead detach` ends it.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    files: Files,
    /// The node that this host is.
    #[arg(long, value_name = "NAME")]
    node: String,
    /// An interface to enforce on; may be repeated.
    #[arg(long = "interface", value_name = "IFACE", required = true)]
    interfaces: Vec<String>,
    /// What happens to packets that the policy does not admit.
    #[arg(long, value_enum, default_value_t = Mode::Enforce)]
    mode: Mode,
    /// Where packets are seen at ingress on WireGuard and TUN interfaces.
    #[arg(long, value_enum, default_value_t = HookChoice::Tcx)]
    hook: HookChoice,
}

/// What happens to packets that the policy does not admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// They are dropped.
    Enforce,
    /// They are reported and pass.
    Audit,
}

/// Where packets are seen at ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum HookChoice {
    /// TCX.
    Tcx,
    /// Generic XDP.
    Xdp,
}

impl Run {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_env_filter(
                tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
            )
            .init();
        let Some((ruleset, inventory)) = input::load_valid(&self.files, global.dialect, global.json)? else {
            return Ok(Answer::No);
        };
        let program = compile(&ruleset, &inventory, &self.node, Limits::default())
            .map_err(|error| Usage(error.to_string()))?;
        daemon::run(Plan {
            instance: global.instance.clone(),
            paths: Paths::of(&global.instance)?,
            node: self.node,
            policy: self.files.policy.display().to_string(),
            inventory_file: self.files.inventory.display().to_string(),
            inventory,
            ruleset,
            program,
            interfaces: self.interfaces,
            xdp: self.hook == HookChoice::Xdp,
            audit: self.mode == Mode::Audit,
        })?;
        Ok(Answer::Yes)
    }
}
