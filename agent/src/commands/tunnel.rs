//! `bulkhead tunnel`: an embedded WireGuard interface, in the foreground until SIGINT or SIGTERM.

use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_tunnel::Config;
use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::exit::{Answer, Usage};
use crate::text;

/// Bring up a WireGuard interface in user space.
///
/// From a wg-quick style file, for hosts whose kernel has no WireGuard. Runs until SIGINT or SIGTERM, then removes the interface.
/// Needs root (CAP_NET_ADMIN) and /dev/net/tun. RUST_LOG sets how much is logged.
#[derive(Debug, clap::Args)]
pub struct Tunnel {
    /// The file: `[Interface]` and `[Peer]` sections as for wg-quick.
    ///
    /// Its hooks and DNS are not acted on.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The interface's name [default: the file's, without its suffix].
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
        let (file, config) = (&self.config, read(&self.config)?);
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = self.interface.as_deref().unwrap_or(&stem);
        bulkhead_tunnel::check_interface_name(name).map_err(Usage)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(bulkhead_tunnel::run(file, name, &config))?;
        Ok(Answer::Yes)
    }
}

fn read(file: &Path) -> Result<Config, Usage> {
    let shown = file.display();
    let unreadable =
        |error| Usage(format!("cannot read {shown}: {error}; give a wg-quick style file with --config"));
    let bytes = std::fs::read(file).map_err(unreadable)?;
    let text = text::decode(bytes).map_err(|error| Usage(format!("cannot read {shown} as text: {error}")))?;
    let mode = std::fs::metadata(file).map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        warn!("{shown} holds a private key and others may read it; `chmod 600 {shown}`");
    }
    bulkhead_tunnel::parse(&shown.to_string(), &text).map_err(|error| Usage(error.to_string()))
}
