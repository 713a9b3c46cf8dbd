//! What a source is told by the configuration.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_http::Tls;

/// One source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name, also of its file in the state directory: letters, digits, `-` and `_`.
    pub name: String,
    /// How long after an answer it is asked again.
    pub every: Duration,
    /// What share of its nodes, in percent, may be gone within an hour. More is taken for a fault of the source.
    pub most_lost: u8,
    /// Who is asked.
    pub kind: Kind,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tailscale's HTTP API, version 2.
    Tailscale(Api),
    /// headscale's HTTP API.
    Headscale(Api),
    /// NetBird's HTTP API.
    NetBird(Api),
    /// Tailscale's daemon on this host.
    LocalApi {
        /// Its socket.
        socket: PathBuf,
    },
    /// A WireGuard interface of this host, and a file of names by public key.
    WireGuard {
        /// Its name.
        interface: String,
        /// The file: `{"<key>": "<name>"}`.
        names: PathBuf,
    },
    /// The files `*.json` of a directory, each an inventory, in the order of their names.
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// A command that prints an inventory.
    Command {
        /// The program, by its whole path, and its arguments.
        command: Vec<String>,
        /// How long it may take.
        patience: Duration,
    },
}

/// An HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The server, such as `https://api.tailscale.com`.
    pub url: String,
    /// The tailnet; `-` is that of the token.
    pub tailnet: String,
    /// A file with the token alone; it is read each time.
    pub token: PathBuf,
    /// Whether each device is asked for its posture attributes.
    pub attributes: bool,
    /// Whom to trust, and as whom to come.
    pub tls: Tls,
}

impl Kind {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tailscale(_) => "tailscale",
            Self::Headscale(_) => "headscale",
            Self::NetBird(_) => "netbird",
            Self::LocalApi { .. } => "localapi",
            Self::WireGuard { .. } => "wireguard",
            Self::Directory { .. } => "directory",
            Self::Command { .. } => "command",
        }
    }
}
