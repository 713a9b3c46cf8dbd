//! The broker, for those who speak to it for the fleet.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_channel::{Account, Client, Role, Settings};
use bulkhead_http::Tls;

use crate::exit::Usage;

/// How long a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the broker is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Broker {
    /// A server, such as tls://nats-1.example.com:4222; again for others.
    #[arg(long = "server", value_name = "URL", required = true)]
    pub(super) servers: Vec<String>,
    /// Certificates to trust servers by [default: the system's].
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
}

impl Broker {
    /// A connection with a file of credentials.
    pub(super) async fn connect(&self, credentials: &Path) -> anyhow::Result<Client> {
        let settings = Settings {
            servers: self.servers.clone(),
            credentials: Some(credentials.to_owned()),
            tls: Tls { ca: self.ca.clone(), identity: None },
            name: String::new(),
        };
        // Read here for its errors; each connection reads it again.
        bulkhead_channel::Credentials::read(credentials).map_err(wrong)?;
        let client = Client::new(settings).map_err(wrong)?;
        client.connected(PATIENCE).await?;
        Ok(client)
    }

    /// A connection as one of the fleet's services, by an account's directory or a file of it.
    pub(super) async fn service(&self, account: &Path, role: Role) -> anyhow::Result<Client> {
        if account.join("operator.nk").exists() {
            // One of an earlier build says so.
            Account::open(account).map_err(wrong)?;
        }
        self.connect(&role.file(account)).await
    }
}

/// What the channel refuses is an answer to whoever asks.
pub(super) fn wrong(error: bulkhead_channel::Error) -> Usage {
    Usage(error.to_string())
}
