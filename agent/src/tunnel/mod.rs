//! `bulkhead tunnel`: a userspace WireGuard interface, for hosts whose kernel has none.
//!
//! boringtun's own device was measured first: as fast, and it dies as cleanly. But it says nothing of a handshake
//! that fails (a stranger's key, another pre-shared key), listens on a random port before it has a key, and keeps
//! its control socket where network namespaces share it: a second `wg0` takes the first one's away. So we drive
//! its `Tunn` ourselves.

mod config;
mod crypt;
mod interface;
mod peers;
mod pump;
mod throttle;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::exit::Usage;
use config::{Config, Endpoint};

/// Brings the tunnel of `file` up and carries its packets until SIGINT or SIGTERM. The interface is named
/// `name`, or after the file as wg-quick does.
///
/// # Errors
/// [`Usage`] where the file cannot be used; otherwise what the system refused. No interface is left behind.
pub async fn run(file: &Path, name: Option<&str>) -> anyhow::Result<()> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name = name.unwrap_or(&stem);
    config::check_interface_name(name).map_err(Usage)?;
    let config = read(file)?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    // Before anything exists, so that a signal from here on always removes it.
    let mut interrupt = signal(SignalKind::interrupt()).context("catch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;

    let work = async {
        let endpoints = resolve(file, &config).await?;
        let underlay = pump::Underlay::bind(&config.interface)?;
        let device = interface::create(name, &config).await?;
        info!(interface = name, port = underlay.port()?, peers = config.peers.len(), "tunnel up");
        pump::run(crypt::Crypt::new(&config, &endpoints), device, underlay).await
    };
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }?;
    info!(interface = name, "tunnel removed");
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Config> {
    let shown = file.display();
    let unreadable =
        |error| Usage(format!("cannot read {shown}: {error}; give a wg-quick style file with --config"));
    let bytes = std::fs::read(file).map_err(unreadable)?;
    let text =
        crate::text::decode(bytes).map_err(|error| Usage(format!("cannot read {shown} as text: {error}")))?;
    let mode = std::fs::metadata(file).map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        warn!("{shown} holds a private key and others may read it; `chmod 600 {shown}`");
    }
    Ok(config::parse(&shown.to_string(), &text).map_err(|error| Usage(error.to_string()))?)
}

/// The peers' endpoints as addresses, in order.
async fn resolve(file: &Path, config: &Config) -> anyhow::Result<Vec<Option<SocketAddr>>> {
    let mut endpoints = Vec::with_capacity(config.peers.len());
    for peer in &config.peers {
        let address = match &peer.endpoint {
            None => None,
            Some(Endpoint::Address(address)) => Some(*address),
            Some(Endpoint::Name { host, port }) => {
                let position = format!("{}:{}", file.display(), peer.line);
                let mut found = tokio::net::lookup_host((host.as_str(), *port)).await.with_context(|| {
                    format!("{position}: resolve Endpoint {host}; write its address, or mend the resolver")
                })?;
                Some(found.next().with_context(|| format!("{position}: Endpoint {host} has no address"))?)
            }
        };
        if let Some(address) = address
            && peer.allowed.iter().any(|prefix| prefix.contains(&address.ip()))
            && config.interface.table != config::Table::Off
        {
            warn!(
                "{}:{}: the peer's Endpoint {} lies in its own AllowedIPs: packets to it are routed into the tunnel",
                file.display(),
                peer.line,
                address.ip()
            );
        }
        endpoints.push(address);
    }
    Ok(endpoints)
}
