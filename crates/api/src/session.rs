//! The session in which somebody asks for a change, which the change must not cut unless that is meant.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Both ends of a TCP connection to this host, as `SSH_CONNECTION` of OpenSSH's sshd has them. Addresses are as in
/// policies: IPv4 in IPv6 form is IPv4, and a link-local address has no interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The other end.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub client: SocketAddr,
    /// This host's end.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub server: SocketAddr,
}
