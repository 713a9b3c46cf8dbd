//! A userspace WireGuard interface, for hosts whose kernel has none: what `bulkhead tunnel` brings up.
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
mod uapi;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use config::Endpoint;
pub use config::{Config, ConfigError, check_interface_name, parse};

/// Brings a tunnel up and carries its packets until SIGINT or SIGTERM. The interface is named `name`; `file` is
/// where the configuration comes from, for messages.
///
/// # Errors
/// What the system refused. No interface is left behind.
pub async fn run(file: &Path, name: &str, config: &Config) -> anyhow::Result<()> {
    for warning in &config.warnings {
        warn!("{warning}");
    }
    // Before anything exists, so that a signal from here on always removes it.
    let mut interrupt = signal(SignalKind::interrupt()).context("catch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;

    let work = async {
        let endpoints = resolve(file, config).await?;
        let underlay = pump::Underlay::bind(&config.interface)?;
        // Before the interface, so that nobody finds it without whoever tells of its peers.
        let listener = uapi::listen(name)?;
        let device = interface::create(name, config).await?;
        info!(interface = name, port = underlay.port()?, peers = config.peers.len(), "tunnel up");
        let crypt = crypt::Crypt::new(config, &endpoints);
        let peers = crypt.shared_peers();
        tokio::select! {
            ended = pump::run(crypt, device, underlay) => ended,
            ended = uapi::serve(listener, peers) => ended,
        }
    };
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }?;
    info!(interface = name, "tunnel removed");
    Ok(())
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
                    format!("{position}: resolve Endpoint {host}; write its address, or fix the resolver")
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
