//! Who may do what at the broker: NATS's decentralised JWTs
//! (<https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt>).
//!
//! ```text
//! operator key ─signs─▸ account ─names─▸ scoped signing keys (agent, invitation): templates of what their users may
//!                                              │
//!                                              └─sign─▸ user JWTs, which hold a name and no permission
//! ```
//!
//! Servers verify them by the operator's key alone, so enrolling a host needs no change of a server's configuration.

mod account;
mod accounts;
mod claims;
mod credentials;
mod keys;
mod leaf;
mod role;

pub use account::Account;
pub use claims::{Claims, verify};
pub use credentials::Credentials;
pub use leaf::Upstream;
pub use role::Role;

pub(crate) use account::agent_jwt;
pub(crate) use claims::now;
pub(crate) use credentials::write_secret;
pub(crate) use keys::read_key;
