//! `bulkhead run`: the agent in the foreground.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_host::places;

use crate::config::{self, Config, HookChoice, Managed, Mode};
use crate::daemon::{self, CompileOptions, Setup};
use crate::duration;
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::guard::Nft;
use crate::paths::Paths;

/// Run the agent: enforce a policy and report every drop.
///
/// Enforcement goes on when the agent ends; `bulkhead detach` ends it. Flags override the configuration
/// file.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The configuration.
    ///
    /// The default instance reads /etc/bulkhead/agent.toml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The policy [default: /etc/bulkhead/policy.hujson].
    #[arg(value_name = "POLICY")]
    policy: Option<PathBuf>,
    /// The inventory [default: /etc/bulkhead/inventory.json].
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// The node that this host is.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// An interface to enforce on; may be repeated.
    ///
    /// These take the place of the configuration's.
    #[arg(long = "interface", value_name = "IFACE")]
    interfaces: Vec<String>,
    /// Drop what the policy does not admit, or report it [default: enforce].
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Where packets are seen at ingress [default: auto].
    #[arg(long, value_enum)]
    hook: Option<HookChoice>,
    /// Keep the nftables guard [default: on].
    ///
    /// It drops what the programs cannot see: packets on a managed interface that came back without a
    /// program, and overlay addresses on other interfaces.
    #[arg(long, value_enum)]
    guard: Option<Switch>,
    /// In a container: /sys/fs/bpf is the host's, bind-mounted there.
    ///
    /// Nothing in the container can tell, and what is pinned in a BPF file system that ends with the
    /// container is enforced no longer.
    #[arg(long)]
    bpffs_is_the_hosts: bool,
    /// Undo this start unless `bulkhead confirm` comes within this time.
    ///
    /// A time such as 60s. What was enforced before returns by itself; if nothing was, enforcement ends and
    /// so does the agent (exit 1). A start that goes on with what is enforced has nothing to confirm.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    confirm: Option<u64>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
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
        daemon::run(self.setup(global)?, global.json)
    }

    fn setup(self, global: &Global) -> Result<Setup, Usage> {
        let paths = Paths::of(&global.instance)?;
        paths.check_name()?;
        // Two instances on the same interfaces would be in each other's way.
        let mut config = Config::find(self.config.as_deref(), paths.is_default())?.unwrap_or_default();
        if let Some(policy) = self.policy {
            config.policy = policy;
        }
        if let Some(inventory) = self.inventory {
            config.inventory = inventory;
        }
        if let Some(mode) = self.mode {
            config.mode = mode;
        }
        if !self.interfaces.is_empty() {
            let hook = self.hook.unwrap_or_default();
            config.interfaces = self.interfaces.iter().map(|name| Managed::new(name, hook)).collect();
        } else if let Some(hook) = self.hook {
            config.interfaces.iter_mut().for_each(|managed| managed.hook = hook);
        }
        let node = self.node.or_else(|| config.node.clone()).ok_or_else(|| {
            Usage("which node is this host? Name it by --node, or as `node` in agent.toml".to_owned())
        })?;
        if config.interfaces.is_empty() {
            return Err(Usage(
                "on which interfaces? Name them by --interface, or as [[interface]] in agent.toml; \
                 `ip link` lists what is there"
                    .to_owned(),
            ));
        }
        if let Some(guard) = self.guard {
            config.guard = guard == Switch::On;
        }
        let options = CompileOptions::new(&config, node, global.dialect);
        let file = self.config.unwrap_or_else(|| Path::new(config::DEFAULT).to_owned());
        for file in [&file, &config.policy, &config.inventory] {
            // Whoever may change it says what is enforced; where it lies is the operator's choice.
            if let Err(error) = places::check(file) {
                tracing::warn!("{:#}", anyhow::Error::from(error));
            }
        }
        let bpffs_is_the_hosts = self.bpffs_is_the_hosts;
        let log_group = Err("not asked for".to_owned());
        Ok(Setup {
            instance: global.instance.clone(),
            paths,
            options,
            config,
            fallback: Arc::new(Nft),
            log_group,
            bpffs_is_the_hosts,
            confirm: self.confirm,
            forwarded_until: 0,
            workloads: Arc::default(),
            sources: Arc::default(),
            fleet: Arc::default(),
        })
    }
}
