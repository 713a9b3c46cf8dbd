//! Looks at the host. Nothing is changed by it, and nothing secret is asked for.

mod links;
mod sockets;
mod tools;

use super::Host;
use crate::client;
use crate::session;

/// What this host has. What cannot be asked is said in it.
///
/// # Errors
/// If the kernel does not tell of its interfaces.
pub fn look() -> anyhow::Result<Host> {
    let mut host = Host { name: bulkhead_host::name(), session: session::at_hand(), ..Host::default() };
    client::block_on(async {
        host.interfaces = links::list().await?;
        tools::ask(&mut host).await;
        Ok(())
    })?;
    host.listeners = sockets::listeners();
    host.ephemeral = sockets::ephemeral();
    match bulkhead_dataplane::connections() {
        Ok(connections) => host.connections = connections,
        Err(error) => host.unknown.push(format!("open connections: {:#}", anyhow::Error::from(error))),
    }
    Ok(host)
}
