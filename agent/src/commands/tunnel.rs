//! `bulkhead tunnel`: an embedded WireGuard interface, in the foreground until SIGINT or SIGTERM.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use crate::exit::Answer;
use crate::tunnel;

/// Bring up a WireGuard interface in user space, from a wg-quick style file.
///
/// For hosts whose kernel has no WireGuard. Runs until SIGINT or SIGTERM, then removes the interface.
/// Needs root (CAP_NET_ADMIN) and /dev/net/tun. RUST_LOG sets how much is logged.
#[derive(Debug, clap::Args)]
pub struct Tunnel {
    /// The file: [Interface] and [Peer] sections as for wg-quick. Its hooks and DNS are not acted on.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The interface's name; the file's name without its suffix if left out.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
}

impl Tunnel {
    pub fn run(&self) -> anyhow::Result<Answer> {
        // boringtun names no peer in what it logs; what matters of it is said by us, with the peer.
        let filter =
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,boringtun=off"));
        // Another subscriber being there already is fine.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .try_init();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(tunnel::run(&self.config, self.interface.as_deref()))?;
        Ok(Answer::Yes)
    }
}
